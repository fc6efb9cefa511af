//! Files as other systems write them, good and bad.

use serde_json::json;

use super::*;

fn all(format: Format, text: &str, means: Means) -> Vec<Result<Line, LineFault>> {
    let reader = std::io::Cursor::new(text.as_bytes().to_vec());
    read(format, reader, means).collect()
}

fn devices(format: Format, text: &str, means: Means) -> Vec<Value> {
    let lines = all(format, text, means).into_iter();
    let devices = lines.map(|line| match line {
        Ok(Line::Draft(draft)) => draft.device,
        other => panic!("{other:?}"),
    });
    devices.collect()
}

fn fault(format: Format, text: &str) -> LineFault {
    let mut lines = all(format, text, Means::default());
    lines.pop().unwrap().unwrap_err()
}

fn routed() -> Means {
    Means {
        fcm_route: Some("android".into()),
        apns_route: Some("ios".into()),
        apns_sandbox_route: Some("ios-sandbox".into()),
        web_push_route: Some("web".into()),
        ..Means::default()
    }
}

/// Pinpoint's own example of an endpoint, with what is asked for put in.
fn exported(changes: Value) -> String {
    let mut endpoint = json!({
        "Address": "1a2b3c4d5e6f",
        "ApplicationId": "application-id",
        "Attributes": { "Interests": ["Technology", "Music"] },
        "ChannelType": "APNS",
        "CohortId": "63",
        "CreationDate": "2018-05-01T17:31:01.046Z",
        "Demographic": { "AppVersion": "1.0", "Make": "apple", "Platform": "ios" },
        "EffectiveDate": "2018-05-07T19:03:29.963Z",
        "EndpointStatus": "ACTIVE",
        "Id": "example_endpoint",
        "Location": { "City": "Seattle", "Latitude": 47.6 },
        "Metrics": { "music_interest_level": 6.0 },
        "OptOut": "NONE",
        "RequestId": "7f546cac-6858-11e8-adcd-2b5a07aab338",
        "User": { "UserAttributes": { "Gender": ["Female"] }, "UserId": "example_user" }
    });
    for (name, value) in changes.as_object().unwrap() {
        endpoint[name] = value.clone();
    }
    endpoint.to_string() + "\n"
}

#[test]
fn an_export_of_pinpoint_becomes_devices() {
    let text = exported(json!({}))
        + &exported(json!({ "ChannelType": "GCM", "Address": "f:AP-1", "Demographic": null }))
        + &exported(json!({ "ChannelType": "APNS_SANDBOX", "EffectiveDate": "" }));
    let expected = [
        json!({
            "apns": { "token": "1a2b3c4d5e6f" }, "recipient": "example_user", "platform": "ios",
            "device_id": "example_endpoint", "route": "ios",
            "refreshed_at": "2018-05-07T19:03:29.963Z",
        }),
        json!({
            "fcm": { "token": "f:AP-1" }, "recipient": "example_user",
            "device_id": "example_endpoint", "route": "android",
            "refreshed_at": "2018-05-07T19:03:29.963Z",
        }),
        json!({
            "apns": { "token": "1a2b3c4d5e6f" }, "recipient": "example_user", "platform": "ios",
            "device_id": "example_endpoint", "route": "ios-sandbox",
        }),
    ];
    assert_eq!(devices(Format::Pinpoint, &text, routed()), expected);
}

#[test]
fn what_cannot_or_must_not_be_sent_to_is_skipped_with_the_reason() {
    let table = [
        (json!({ "ChannelType": "EMAIL" }), Skip::NotPush),
        (json!({ "ChannelType": "SMS" }), Skip::NotPush),
        (json!({ "ChannelType": "BAIDU" }), Skip::Service),
        (json!({ "ChannelType": "ADM" }), Skip::Service),
        (json!({ "OptOut": "ALL" }), Skip::OptedOut),
        (json!({ "EndpointStatus": "INACTIVE" }), Skip::Inactive),
    ];
    for (changes, expected) in table {
        let found = all(Format::Pinpoint, &exported(changes.clone()), routed());
        assert_eq!(found, [Ok(Line::Skipped(expected))], "{changes}");
    }
    assert_eq!(
        all(Format::Json, "\n", routed()),
        [Ok(Line::Skipped(Skip::Empty))]
    );
}

#[test]
fn each_fault_says_where_what_by_which_rule_and_what_to_do() {
    let pinpoint = |changes: Value| fault(Format::Pinpoint, &exported(changes)).to_string();
    let found = pinpoint(json!({ "User": {} }));
    assert_eq!(
        found,
        "line 1: `User.UserId` must be given: add the user, or give endpoints without one a \
         recipient of their own with --recipient-from-id"
    );
    let found = pinpoint(json!({ "EffectiveDate": "last year" }));
    assert_eq!(
        found,
        "line 1: `EffectiveDate` must be a moment as RFC 3339 writes it, not \"last year\": \
         write it like 2026-10-30T17:31:01Z"
    );
    assert!(pinpoint(json!({ "Address": "" })).contains("must be the device's token"));
    assert!(pinpoint(json!({ "ChannelType": "FAX" })).contains("not \"FAX\""));
    assert!(pinpoint(json!({ "ChannelType": "APNS_SANDBOX" })).contains("--apns-sandbox-route"));
    assert!(
        fault(Format::Pinpoint, "\u{1f}")
            .to_string()
            .contains("zcat")
    );
    let json = |text: &str| fault(Format::Json, text).to_string();
    assert!(json("{}").contains("exactly one of `web_push`, `apns` and `fcm`"));
    assert!(json(r#"{"fcm":{},"apns":{}}"#).contains("not \"apns, fcm\""));
    assert!(json("[{}]").contains("jq -c"));
    assert!(json(r#"{"fcm":{},"refreshed_at":5}"#).contains("RFC 3339"));
    assert!(json("\n{").contains("line 2: `line` must be JSON"));
}

#[test]
fn an_endpoint_without_a_user_may_be_a_recipient_of_its_own() {
    let means = Means {
        recipient_from_id: true,
        ..routed()
    };
    let made = devices(
        Format::Pinpoint,
        &exported(json!({ "User": null })),
        means.clone(),
    );
    assert_eq!(made[0]["recipient"], "example_endpoint");
    let made = devices(Format::Pinpoint, &exported(json!({})), means);
    assert_eq!(made[0]["recipient"], "example_user");
}

#[test]
fn columns_become_devices() {
    let text = "\u{feff}channel,token,fid,endpoint,p256dh,auth,recipient,event_types,refreshed_at\n\
        fcm, t0k ,,,,,anna,order.* news,2026-10-30T10:00:00+02:00\n\
        fcm,,f1d,,,,\"Bo, the second\",,\n\
        ,,,,,,,,\n\
        apns,00ff,,,,,cleo,,\n\
        web_push,,,https://push.example/1,BPk,c2Vj,dora,,\n";
    let means = Means {
        written_at: Some(Time(0)),
        ..routed()
    };
    let lines = all(Format::Csv, text, means);
    assert_eq!(lines[2], Ok(Line::Skipped(Skip::Empty)));
    let drafts: Vec<(u64, Value)> = lines
        .into_iter()
        .filter_map(|line| match line.unwrap() {
            Line::Draft(draft) => Some((draft.line, draft.device)),
            Line::Skipped(_) => None,
        })
        .collect();
    let old = "1970-01-01T00:00:00Z";
    let expected = [
        (
            2,
            json!({ "fcm": { "token": "t0k" }, "recipient": "anna", "route": "android",
            "event_types": ["order.*", "news"], "refreshed_at": "2026-10-30T08:00:00Z" }),
        ),
        (
            3,
            json!({ "fcm": { "fid": "f1d" }, "recipient": "Bo, the second", "route": "android",
            "refreshed_at": old }),
        ),
        (
            5,
            json!({ "apns": { "token": "00ff" }, "recipient": "cleo", "route": "ios",
            "refreshed_at": old }),
        ),
        (
            6,
            json!({ "web_push": { "endpoint": "https://push.example/1",
            "keys": { "p256dh": "BPk", "auth": "c2Vj" } }, "recipient": "dora", "route": "web",
            "refreshed_at": old }),
        ),
    ];
    assert_eq!(drafts, expected);
}

#[test]
fn columns_that_do_not_fit_are_named() {
    let csv = |text: &str| fault(Format::Csv, text).to_string();
    assert!(csv("channel,colour\n").starts_with("line 1: `column` must be one of channel, token"));
    assert!(csv("channel,channel\n").contains("must be there once"));
    assert!(csv("token\n").contains("`channel` must be one of them"));
    assert!(
        csv("channel,token\nfax,1\n")
            .contains("line 2: `channel` must be fcm, apns or web_push, not \"fax\"")
    );
    assert!(csv("channel,token,fid\nfcm,1,2\n").contains("exactly one of them"));
    assert!(csv("channel,token\nfcm,\n").contains("`token` must be given"));
    assert!(csv("channel,token\nfcm,1,2\n").contains("must have 2 fields"));
    assert!(csv("channel,endpoint\nweb_push,https://x\n").contains("`p256dh` must be given"));
    assert!(csv("channel,refreshed_at,token\nfcm,now,1\n").contains("RFC 3339"));
    // A line that is no text does not keep the next from being read.
    let bytes = b"channel,token\nfcm,\xff\nfcm,ok\n".to_vec();
    let lines: Vec<_> = read(Format::Csv, std::io::Cursor::new(bytes), routed()).collect();
    assert_eq!(lines.len(), 2);
    assert!(
        lines[0]
            .as_ref()
            .unwrap_err()
            .rule
            .contains("could not be read")
    );
    assert!(matches!(&lines[1], Ok(Line::Draft(draft)) if draft.line == 3));
}

#[test]
fn a_wrong_value_is_cut_and_a_secret_not_shown() {
    let token = "t".repeat(100);
    let text = format!("channel,token,fid\nfcm,{token},x\n");
    let found = fault(Format::Csv, &text);
    assert_eq!(found.value, "tttttttttttt…");
    let found = Wrong::new("auth", "secret", "r", "w");
    assert_eq!(found.value, "");
}

#[test]
fn a_line_without_end_ends_the_reading() {
    let text = "x".repeat(usize::try_from(LINE_BYTES_MAX).unwrap() + 5);
    let lines = all(Format::Json, &text, routed());
    assert_eq!(lines.len(), 1);
    assert!(
        lines[0]
            .as_ref()
            .unwrap_err()
            .rule
            .contains("at most 65536 bytes")
    );
}
