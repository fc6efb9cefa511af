//! The `pinpoint` format: what an export of Amazon Pinpoint's endpoints has on a line.

use serde::Deserialize;
use serde_json::json;

use super::{Draft, Line, Means, Skip, Wrong, age, moment};

/// What to do about what is no line of an export.
const UNPACKED: &str = "give the files of an export job of Pinpoint's, unpacked (`zcat *.gz`)";

/// An endpoint as Pinpoint exports it. Only what a device has here is read.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Exported {
    #[serde(default)]
    id: String,
    #[serde(default)]
    address: String,
    #[serde(default)]
    channel_type: String,
    #[serde(default)]
    endpoint_status: String,
    #[serde(default)]
    opt_out: String,
    #[serde(default)]
    effective_date: String,
    #[serde(default)]
    demographic: Option<Demographic>,
    #[serde(default)]
    user: Option<User>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Demographic {
    #[serde(default)]
    platform: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct User {
    #[serde(default)]
    user_id: Option<String>,
}

/// One endpoint.
pub(super) fn endpoint(text: &[u8], means: &Means, line: u64) -> Result<Line, Wrong> {
    let gzip = text.starts_with(b"\x1f\x8b");
    let packed = || Wrong::new("file", "", "must be unpacked", UNPACKED);
    let exported: Exported = serde_json::from_slice(text).map_err(|fault| match gzip {
        true => packed(),
        false => {
            let rule = format!("must be an endpoint of Pinpoint's in JSON ({fault})");
            Wrong::new("line", "", rule, UNPACKED)
        }
    })?;
    let (kind, sandbox) = match way(&exported.channel_type)? {
        Ok(way) => way,
        Err(why) => return Ok(Line::Skipped(why)),
    };
    if exported.opt_out == "ALL" {
        return Ok(Line::Skipped(Skip::OptedOut));
    }
    if exported.endpoint_status == "INACTIVE" {
        return Ok(Line::Skipped(Skip::Inactive));
    }
    if exported.address.is_empty() {
        let way_out = "leave the line out: there is no device behind it";
        return Err(Wrong::new(
            "Address",
            "",
            "must be the device's token",
            way_out,
        ));
    }
    let route = means.route(kind, sandbox);
    if sandbox && route.is_none() {
        let way_out = "name the sandbox's route with --apns-sandbox-route, or leave the line out";
        let rule = "is for Apple's sandbox, which has a route of its own";
        return Err(Wrong::new("ChannelType", "APNS_SANDBOX", rule, way_out));
    }
    let user = exported.user.and_then(|user| user.user_id);
    let recipient = recipient(user.as_deref().unwrap_or_default(), &exported.id, means)?;
    let mut device = serde_json::Map::new();
    device.insert(kind.into(), json!({ "token": exported.address }));
    device.insert("recipient".into(), recipient.into());
    if !exported.id.is_empty() {
        device.insert("device_id".into(), exported.id.into());
    }
    let platform = exported.demographic.and_then(|it| it.platform);
    if let Some(platform) = platform.filter(|it| !it.is_empty()) {
        device.insert("platform".into(), platform.into());
    }
    if let Some(route) = route {
        device.insert("route".into(), route.into());
    }
    let given = match exported.effective_date.as_str() {
        "" => None,
        text => Some(moment("EffectiveDate", text)?),
    };
    age(&mut device, given, means);
    Ok(Line::Draft(Draft {
        line,
        device: device.into(),
    }))
}

/// The channel of a type of Pinpoint's, and whether it is Apple's sandbox; or why it is none.
fn way(channel_type: &str) -> Result<Result<(&'static str, bool), Skip>, Wrong> {
    Ok(match channel_type {
        "GCM" => Ok(("fcm", false)),
        "APNS" => Ok(("apns", false)),
        "APNS_SANDBOX" => Ok(("apns", true)),
        "EMAIL" | "SMS" | "VOICE" | "IN_APP" | "CUSTOM" => Err(Skip::NotPush),
        "ADM" | "BAIDU" | "PUSH" | "APNS_VOIP" | "APNS_VOIP_SANDBOX" => Err(Skip::Service),
        other => {
            let rule = "must be one of Pinpoint's channel types";
            return Err(Wrong::new("ChannelType", other, rule, UNPACKED));
        }
    })
}

fn recipient<'a>(user: &'a str, id: &'a str, means: &Means) -> Result<&'a str, Wrong> {
    let recipient = match (user, means.recipient_from_id) {
        ("", true) => id,
        (user, _) => user,
    };
    if recipient.is_empty() {
        let way_out = "add the user, or give endpoints without one a recipient of their own with \
                       --recipient-from-id";
        return Err(Wrong::new("User.UserId", "", "must be given", way_out));
    }
    Ok(recipient)
}
