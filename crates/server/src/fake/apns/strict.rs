//! What APNs refuses about a request, in Apple's words (Apple, "Sending notification requests to
//! APNs" and "Handling notification responses from APNs").
//!
//! Absent here: what is known of a device, and the provider token.

use http::{HeaderMap, Method};
use uuid::Uuid;

/// HTTP status and reason.
pub(super) type Refusal = (u16, &'static str);

/// Bytes of a body at the most.
const BODY_BYTES_MAX: usize = 4_096;
/// The same for `voip`.
const BODY_BYTES_VOIP_MAX: usize = 5_120;
/// Bytes of a body that are read before it is refused.
pub(super) const READ_BYTES_MAX: usize = 64 * 1_024;
const COLLAPSE_ID_BYTES_MAX: usize = 64;
/// Digits of a device token.
const TOKEN_CHARS: std::ops::RangeInclusive<usize> = 64..=512;

/// Push types, and what the topic of each ends with.
const PUSH_TYPES: [(&str, &str); 11] = [
    ("alert", ""),
    ("background", ""),
    ("location", ".location-query"),
    ("voip", ".voip"),
    ("complication", ".complication"),
    ("fileprovider", ".pushkit.fileprovider"),
    ("mdm", ""),
    ("liveactivity", ".push-type.liveactivity"),
    ("pushtotalk", ".voip-ptt"),
    ("widgets", ".push-type.widgets"),
    ("controls", ".push-type.controls"),
];

/// What the headers of a sound request say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) id: Option<String>,
    pub(super) push_type: String,
    /// The bundle id, without the suffix of the push type.
    pub(super) app: String,
    pub(super) topic: String,
    pub(super) priority: u8,
    pub(super) expiration: Option<i64>,
    pub(super) collapse_id: Option<String>,
}

/// The device token in a path.
pub(super) fn device(method: &Method, path: &str) -> Result<String, Refusal> {
    let token = path.strip_prefix("/3/device/").or(match path {
        "/3/device" => Some(""),
        _ => None,
    });
    let token = token.ok_or((404, "BadPath"))?;
    if method != Method::POST {
        return Err((405, "MethodNotAllowed"));
    }
    if token.is_empty() {
        return Err((400, "MissingDeviceToken"));
    }
    let hex = token.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !hex || token.len() % 2 == 1 || !TOKEN_CHARS.contains(&token.len()) {
        return Err((400, "BadDeviceToken"));
    }
    Ok(token.to_ascii_lowercase())
}

/// What the headers ask for.
pub(super) fn headers(headers: &HeaderMap) -> Result<Asked, Refusal> {
    let names = headers
        .keys()
        .filter(|name| name.as_str().starts_with("apns-"));
    for name in names {
        if headers.get_all(name).iter().count() > 1 {
            return Err((400, "DuplicateHeaders"));
        }
    }
    let text = |name: &str| {
        headers
            .get(name)
            .map(|value| value.to_str().unwrap_or_default())
    };
    let id = text("apns-id");
    let canonical = |id: &str| Uuid::try_parse(id).is_ok_and(|uuid| uuid.to_string() == id);
    if id.is_some_and(|id| !canonical(id)) {
        return Err((400, "BadMessageId"));
    }
    let expiration = match text("apns-expiration") {
        None => None,
        Some(text) => match text.parse() {
            Ok(at) if at >= 0_i64 => Some(at),
            _ => return Err((400, "BadExpirationDate")),
        },
    };
    let push_type = text("apns-push-type").unwrap_or("alert");
    let known = PUSH_TYPES.iter().find(|(name, _)| *name == push_type);
    let &(_, suffix) = known.ok_or((400, "InvalidPushType"))?;
    let default = if push_type == "background" { 5 } else { 10 };
    let priority = match text("apns-priority") {
        None => default,
        Some("10") if push_type != "background" => 10,
        Some("5") => 5,
        Some("1") => 1,
        Some(_) => return Err((400, "BadPriority")),
    };
    let collapse_id = text("apns-collapse-id");
    if collapse_id.is_some_and(|id| id.is_empty() || id.len() > COLLAPSE_ID_BYTES_MAX) {
        return Err((400, "BadCollapseId"));
    }
    let topic = text("apns-topic").ok_or((400, "MissingTopic"))?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    let app = topic
        .strip_suffix(suffix)
        .filter(|app| !app.is_empty() && app.bytes().all(plain));
    Ok(Asked {
        id: id.map(str::to_owned),
        push_type: push_type.to_owned(),
        app: app.ok_or((400, "BadTopic"))?.to_owned(),
        topic: topic.to_owned(),
        priority,
        expiration,
        collapse_id: collapse_id.map(str::to_owned),
    })
}

/// Whether a body can be one. Apple names no reason for what is no JSON; this one is the closest.
pub(super) fn body(asked: &Asked, body: &[u8]) -> Result<(), Refusal> {
    let bytes_max = match asked.push_type.as_str() {
        "voip" => BODY_BYTES_VOIP_MAX,
        _ => BODY_BYTES_MAX,
    };
    if body.len() > bytes_max {
        return Err((413, "PayloadTooLarge"));
    }
    let object = serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(body);
    match object {
        Ok(object) if !object.is_empty() => Ok(()),
        _ => Err((400, "PayloadEmpty")),
    }
}
