//! The body of a request to APNs, from an event's payload, and what the payload says about its
//! headers.
//!
//! A payload that is a JSON object with an `aps` of its own is an APNs payload: it is sent as it
//! is. Any other JSON object is the channel-independent form, of which APNs gets:
//!
//! | from | to |
//! | --- | --- |
//! | `notification.title`, `.subtitle`, `.body` | `aps.alert` |
//! | `notification.sound` | `aps.sound` |
//! | `notification.badge`, where it is a number | `aps.badge` |
//! | `notification.tag` | `aps.thread-id` |
//! | `notification.image`, `.url` | `postrider`; an image sets `aps.mutable-content` |
//! | `data` | `data`, as it is |
//! | `apns.headers` | the headers of that name; see [`Content`] |
//! | `apns.payload`, and what else is in `apns` | merged over all of the above (RFC 7396) |
//!
//! One without `notification` wakes the app without showing anything (`content-available`); one
//! with no member of the form is `data` as a whole. What Postrider adds is `postrider`: `id`, the
//! notification id, by which the app tells a repeat; `key`, which is the collapse id; `at`, when it
//! was admitted, in milliseconds since 1970, and of ordered ones `sequence`, because APNs may hand
//! over two in any order; and `receipt`.
//!
//! Absent here: HTTP, and any look at what APNs makes of it.

use std::borrow::Cow;
use std::collections::BTreeMap;

use postrider_core::cause::Cause;
use postrider_core::event::Urgency;
use postrider_core::time::SECOND_MS;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use crate::channel::told::{Told, merge};
use crate::receipts::ReceiptAsk;

/// Bytes of a body at the most.
pub const BODY_BYTES_MAX: usize = 4_096;
/// The same where the push type is `voip`.
pub const BODY_BYTES_VOIP_MAX: usize = 5_120;
/// Members of the channel-independent form. An object with none of them is `data` as a whole.
const FORM: [&str; 5] = ["notification", "data", "apns", "fcm", "web_push"];
/// Bytes of a collapse id at the most.
pub const COLLAPSE_ID_BYTES_MAX: usize = 64;

macro_rules! push_types {
    ($($(#[$doc:meta])* $variant:ident $name:literal $suffix:literal;)*) => {
        /// What APNs is told that a payload is (Apple, "Sending notification requests to APNs").
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum PushType { $($(#[$doc])* $variant,)* }

        impl PushType {
            /// All of them.
            pub const ALL: &'static [PushType] = &[$(PushType::$variant),*];

            /// The word that the `apns-push-type` header has for it.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(PushType::$variant => $name,)* }
            }

            /// What follows the app's bundle id in its `apns-topic`.
            #[must_use]
            pub fn suffix(self) -> &'static str {
                match self { $(PushType::$variant => $suffix,)* }
            }
        }
    };
}

push_types! {
    /// Shown, heard or counted.
    Alert "alert" "";
    /// Wakes the app.
    Background "background" "";
    /// Asks for the device's place.
    Location "location" ".location-query";
    /// Announces a call.
    Voip "voip" ".voip";
    /// Changes a watch face.
    Complication "complication" ".complication";
    /// Announces changed files.
    FileProvider "fileprovider" ".pushkit.fileprovider";
    /// Lets a managed device ask its server.
    Mdm "mdm" "";
    /// Starts, changes or ends a live activity.
    LiveActivity "liveactivity" ".push-type.liveactivity";
    /// Announces speech.
    PushToTalk "pushtotalk" ".voip-ptt";
    /// Renews widgets.
    Widgets "widgets" ".push-type.widgets";
    /// Renews controls.
    Controls "controls" ".push-type.controls";
}

impl PushType {
    /// The push type with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<PushType> {
        let all = PushType::ALL.iter().copied();
        all.clone().find(|push_type| push_type.name() == name)
    }

    /// Bytes of its body at the most.
    #[must_use]
    pub fn body_bytes_max(self) -> usize {
        match self {
            PushType::Voip => BODY_BYTES_VOIP_MAX,
            _ => BODY_BYTES_MAX,
        }
    }
}

/// Why a payload cannot go to APNs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ContentFault {
    /// It is no JSON object.
    #[error("APNs carries JSON objects only; this payload is none")]
    NotAnObject,
    /// A member of the form that is not what it must be.
    #[error("`{0}` must be {1}")]
    Kind(&'static str, &'static str),
    /// A header that is ours to set, or that APNs does not have.
    #[error(
        "`apns.headers` may have apns-push-type, -priority, -topic and -collapse-id, not {0:?}"
    )]
    Header(Box<str>),
    /// Another app than the endpoint's.
    #[error("`apns-topic` must be {0} or begin with it and a dot")]
    Topic(Box<str>),
    /// A priority that its push type does not have.
    #[error("a background notification cannot have priority 10 (Apple: 5 or 1)")]
    Priority,
    /// The body is too large.
    #[error("the APNs payload would have {bytes} bytes, {bytes_max} at most")]
    TooLarge {
        /// How large it would be.
        bytes: usize,
        /// How large it may be.
        bytes_max: usize,
    },
}

impl ContentFault {
    /// The cause that the delivery is refused for.
    #[must_use]
    pub fn cause(&self) -> Cause {
        match self {
            ContentFault::TooLarge { .. } => Cause::ContentTooLarge,
            _ => Cause::ContentInvalid,
        }
    }
}

/// What a payload comes to.
#[derive(Debug)]
pub struct Content {
    /// The body.
    pub body: Vec<u8>,
    /// As `apns-push-type` says, or else as the payload looks.
    pub push_type: PushType,
    /// As `apns-topic` says, or else the app's bundle id with the suffix of the push type.
    pub app: String,
    /// As `apns-priority` says, or else as push type and urgency have it.
    pub priority: u8,
    /// As `apns-collapse-id` says, or else the replace key.
    pub collapse_id: String,
}

/// The body and headers that tell `told` to the app `topic`. The same arguments give the same
/// bytes.
///
/// # Errors
/// [`ContentFault`], the first.
pub fn compose(told: &Told<'_>, topic: &str) -> Result<Content, ContentFault> {
    let given: BTreeMap<Cow<'_, str>, &RawValue> =
        serde_json::from_slice(told.payload).map_err(|_| ContentFault::NotAnObject)?;
    let native = given.contains_key("aps");
    let (mut members, mut mark) = match native {
        true => natively(&given),
        false => from_form(&given, told.payload)?,
    };
    let headers = match given.get("apns").filter(|_| !native) {
        Some(overrides) => merge_overrides(overrides, &mut members)?,
        None => Headers::default(),
    };
    let push_type = push_type(&headers, &mut members, told)?;
    mark.fill(told, headers.collapse_id.as_deref());
    if push_type != PushType::Mdm {
        // A managed device takes `mdm` and nothing beside it.
        members.insert("postrider".into(), Member::Mark(mark));
    }
    let body = serde_json::to_vec(&members).expect("maps of JSON values are JSON");
    let bytes_max = push_type.body_bytes_max();
    if body.len() > bytes_max {
        let bytes = body.len();
        return Err(ContentFault::TooLarge { bytes, bytes_max });
    }
    Ok(Content {
        body,
        push_type,
        app: headers.topic(topic, push_type)?,
        priority: headers.priority(push_type, told.urgency)?,
        collapse_id: headers
            .collapse_id
            .unwrap_or_else(|| told.replace_key.clone()),
    })
}

type Members<'a> = BTreeMap<Cow<'a, str>, Member<'a>>;

/// A member of the body: as it was submitted, or made here.
#[derive(Serialize)]
#[serde(untagged)]
enum Member<'a> {
    Given(&'a RawValue),
    Made(Value),
    Mark(Mark<'a>),
}

/// What Postrider adds.
#[derive(Default, Serialize)]
struct Mark<'a> {
    id: String,
    key: Cow<'a, str>,
    at: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    sequence: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    image: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    receipt: Option<&'a ReceiptAsk>,
}

impl<'a> Mark<'a> {
    fn fill(&mut self, told: &'a Told<'_>, collapse_id: Option<&str>) {
        self.id = told.id.hyphenated().to_string();
        self.key = match collapse_id {
            Some(own) => Cow::Owned(own.to_owned()),
            None => told.replace_key.as_str().into(),
        };
        self.at = told.admitted_at.0;
        self.sequence = told.sequence;
        self.receipt = told.receipt.as_ref();
    }
}

fn natively<'a>(given: &BTreeMap<Cow<'a, str>, &'a RawValue>) -> (Members<'a>, Mark<'a>) {
    let members = given
        .iter()
        .map(|(name, value)| (name.clone(), Member::Given(value)));
    (members.collect(), Mark::default())
}

/// `notification` of the channel-independent form. Fields that Apple's devices have no use for are
/// passed over.
#[derive(Deserialize)]
struct Notification<'a> {
    #[serde(borrow)]
    title: Option<Cow<'a, str>>,
    #[serde(borrow)]
    subtitle: Option<Cow<'a, str>>,
    #[serde(borrow)]
    body: Option<Cow<'a, str>>,
    badge: Option<Value>,
    sound: Option<Value>,
    #[serde(borrow)]
    tag: Option<Cow<'a, str>>,
    #[serde(borrow)]
    image: Option<Cow<'a, str>>,
    #[serde(borrow)]
    url: Option<Cow<'a, str>>,
}

fn from_form<'a>(
    given: &BTreeMap<Cow<'a, str>, &'a RawValue>,
    whole: &'a [u8],
) -> Result<(Members<'a>, Mark<'a>), ContentFault> {
    let (mut members, mut mark) = (Members::new(), Mark::default());
    let aps = match given.get("notification") {
        None => json!({ "content-available": 1 }),
        Some(value) => {
            let texts = "an object whose title, subtitle, body, tag, image and url are texts";
            let fault = |_| ContentFault::Kind("notification", texts);
            let notification = serde_json::from_str(value.get()).map_err(fault)?;
            shown(notification, &mut mark)
        }
    };
    members.insert("aps".into(), Member::Made(aps));
    let none_of_the_form = !FORM.iter().any(|name| given.contains_key(*name));
    let data = match given.get("data") {
        None if none_of_the_form => serde_json::from_slice(whole).ok(),
        data => data.copied(),
    };
    if let Some(data) = data {
        members.insert("data".into(), Member::Given(data));
    }
    Ok((members, mark))
}

fn shown<'a>(notification: Notification<'a>, mark: &mut Mark<'a>) -> Value {
    let mut alert = Map::new();
    let texts = [
        ("title", notification.title),
        ("subtitle", notification.subtitle),
        ("body", notification.body),
    ];
    for (name, text) in texts {
        if let Some(text) = text {
            alert.insert(name.to_owned(), text.into());
        }
    }
    let mut aps = Map::new();
    if !alert.is_empty() {
        aps.insert("alert".to_owned(), alert.into());
    }
    // For browsers `badge` is the address of a picture.
    if let Some(badge) = notification.badge.filter(Value::is_u64) {
        aps.insert("badge".to_owned(), badge);
    }
    if let Some(sound) = notification.sound {
        aps.insert("sound".to_owned(), sound);
    }
    if let Some(tag) = notification.tag {
        aps.insert("thread-id".to_owned(), tag.into());
    }
    if notification.image.is_some() {
        aps.insert("mutable-content".to_owned(), 1.into());
    }
    (mark.image, mark.url) = (notification.image, notification.url);
    aps.into()
}

/// What `apns.headers` says.
#[derive(Default)]
struct Headers {
    push_type: Option<PushType>,
    priority: Option<u8>,
    topic: Option<String>,
    collapse_id: Option<String>,
}

impl Headers {
    fn read(value: Value) -> Result<Headers, ContentFault> {
        let Value::Object(fields) = value else {
            return Err(ContentFault::Kind("apns.headers", "an object"));
        };
        let mut headers = Headers::default();
        for (name, value) in fields {
            let text = match value {
                Value::String(text) => text,
                Value::Number(number) => number.to_string(),
                _ => return Err(ContentFault::Kind("apns.headers", "an object of texts")),
            };
            headers.set(&name, text)?;
        }
        Ok(headers)
    }

    fn set(&mut self, name: &str, text: String) -> Result<(), ContentFault> {
        let visible = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        match name {
            "apns-push-type" => {
                let found = PushType::from_name(&text);
                let fault = ContentFault::Kind("apns-push-type", "one that Apple's documents name");
                self.push_type = Some(found.ok_or(fault)?);
            }
            "apns-priority" => {
                let found = text.parse().ok().filter(|it| matches!(it, 10 | 5 | 1));
                let fault = ContentFault::Kind("apns-priority", "10, 5 or 1");
                self.priority = Some(found.ok_or(fault)?);
            }
            "apns-topic" => self.topic = Some(text),
            "apns-collapse-id" if visible && text.len() <= COLLAPSE_ID_BYTES_MAX => {
                self.collapse_id = Some(text);
            }
            "apns-collapse-id" => {
                let demand = "1 to 64 visible ASCII characters";
                return Err(ContentFault::Kind("apns-collapse-id", demand));
            }
            other => return Err(ContentFault::Header(other.into())),
        }
        Ok(())
    }

    /// The topic for an app. The caller may name the suffix, not the app.
    fn topic(&self, app: &str, push_type: PushType) -> Result<String, ContentFault> {
        let suffix = push_type.suffix();
        match &self.topic {
            Some(own) => {
                let rest = own.strip_prefix(app);
                let fits = rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
                match fits && super::is_bundle_id(own) {
                    true => Ok(own.clone()),
                    false => Err(ContentFault::Topic(app.into())),
                }
            }
            None if app.ends_with(suffix) => Ok(app.to_owned()),
            None => Ok(format!("{app}{suffix}")),
        }
    }

    fn priority(&self, push_type: PushType, urgency: Urgency) -> Result<u8, ContentFault> {
        let background = push_type == PushType::Background;
        match (self.priority, urgency) {
            (Some(10), _) if background => Err(ContentFault::Priority),
            (Some(own), _) => Ok(own),
            (None, Urgency::VeryLow) => Ok(1),
            (None, Urgency::Low) => Ok(5),
            (None, Urgency::Normal | Urgency::High) => Ok(if background { 5 } else { 10 }),
        }
    }
}

/// Merges `apns` over what was made so far, and takes its headers out.
fn merge_overrides(
    overrides: &RawValue,
    members: &mut Members<'_>,
) -> Result<Headers, ContentFault> {
    let Ok(mut overrides) = serde_json::from_str::<Map<String, Value>>(overrides.get()) else {
        return Err(ContentFault::Kind("apns", "an object"));
    };
    let headers = overrides.remove("headers").map(Headers::read);
    let payload = overrides.remove("payload");
    for (name, patch) in overrides {
        merge_member(members, name, patch);
    }
    match payload {
        None => {}
        Some(Value::Object(payload)) => {
            for (name, patch) in payload {
                merge_member(members, name, patch);
            }
        }
        Some(_) => return Err(ContentFault::Kind("apns.payload", "an object")),
    }
    headers.unwrap_or_else(|| Ok(Headers::default()))
}

fn merge_member(members: &mut Members<'_>, name: String, patch: Value) {
    let mut value = match members.remove(name.as_str()) {
        Some(Member::Made(value)) => value,
        Some(Member::Given(raw)) => serde_json::from_str(raw.get()).unwrap_or_default(),
        Some(Member::Mark(_)) | None => Value::Null,
    };
    if patch.is_null() {
        return;
    }
    merge(&mut value, patch);
    members.insert(name.into(), Member::Made(value));
}

/// What of `aps` tells its push type.
#[derive(Deserialize)]
struct Aps<'a> {
    #[serde(borrow, default)]
    alert: Option<&'a RawValue>,
    #[serde(borrow, default)]
    badge: Option<&'a RawValue>,
    #[serde(borrow, default)]
    sound: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "content-available")]
    content_available: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "content-state")]
    content_state: Option<&'a RawValue>,
    #[serde(borrow, default)]
    event: Option<&'a RawValue>,
}

/// As the header says or the payload looks. A live activity gets the `timestamp` that Apple demands
/// if it has none: the time of admission, so that each attempt says the same.
fn push_type(
    headers: &Headers,
    members: &mut Members<'_>,
    told: &Told<'_>,
) -> Result<PushType, ContentFault> {
    let text: Cow<'_, str> = match members.get("aps") {
        Some(Member::Given(raw)) => raw.get().into(),
        Some(Member::Made(value)) => value.to_string().into(),
        Some(Member::Mark(_)) | None => "{}".into(),
    };
    let fault = |_| ContentFault::Kind("aps", "an object");
    let aps: Aps<'_> = serde_json::from_str(&text).map_err(fault)?;
    let seen = aps.alert.is_some() || aps.badge.is_some() || aps.sound.is_some();
    let looks = match (aps.event.is_some() && aps.content_state.is_some(), seen) {
        (true, _) => PushType::LiveActivity,
        (false, false) if aps.content_available.is_some() => PushType::Background,
        (false, _) => PushType::Alert,
    };
    let push_type = headers.push_type.unwrap_or(looks);
    if push_type == PushType::LiveActivity {
        let stamp = told.admitted_at.0.div_euclid(SECOND_MS);
        stamp_activity(members, stamp);
    }
    Ok(push_type)
}

fn stamp_activity(members: &mut Members<'_>, stamp: i64) {
    let missing = match members.get("aps") {
        Some(Member::Given(raw)) => {
            let aps: Value = serde_json::from_str(raw.get()).unwrap_or_default();
            aps.get("timestamp").is_none()
        }
        Some(Member::Made(aps)) => aps.get("timestamp").is_none(),
        Some(Member::Mark(_)) | None => false,
    };
    if missing {
        merge_member(members, "aps".to_owned(), json!({ "timestamp": stamp }));
    }
}
