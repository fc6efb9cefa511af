//! What the fake of APNs is told and asked over `/_/apns`.
//!
//! Absent here: any guard; see `fake::admin`.

use http::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::model::{Device, Key, Script, Wanted};
use super::service::Service;

/// Notifications in one answer.
const PAGE_MAX: usize = 10_000;

/// What the list of admin paths says about this.
pub(in crate::fake) const HELP: &str = r#"
GET    /_/apns             how the fake of APNs does; its origin and its certificate
GET    /_/apns/key         makes a provider key and lets it send: team, key_id, p8
POST   /_/apns/key         lets a key send, {"team":"...","key_id":"...","p8":"..."}
GET    /_/apns/notifications  what arrived, a JSON object a line; ?token=, apns_id=, reason=,
                           status= (0: no answer), processed=, after= (a serial), limit=
GET    /_/apns/shown       what a device shows, ?token=
POST   /_/apns/device      makes a device known, {"token":"...","app":"...","gone_since":ms}
POST   /_/apns/script      other answers, {"token":"ab*","acts":[{"status":503}]}
POST   /_/apns/tell        any of {"streams":1}, {"new_streams":[1,1000]}, {"hold":true},
                           {"go_away":{"reason":"...","processed":0}}, {"clock_ahead_s":60},
                           {"strangers":false}
"#;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WhichDevice {
    token: String,
}

/// What the fake is told to do from now on, or once.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Tell {
    streams: Option<u32>,
    new_streams: Option<(u32, u32)>,
    hold: Option<bool>,
    go_away: Option<GoAway>,
    clock_ahead_s: Option<i64>,
    strangers: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GoAway {
    reason: String,
    #[serde(default)]
    processed: usize,
}

/// Answers one request: JSON objects, one a line; `None` if there is no such path.
pub(in crate::fake) fn answer(
    service: &Service,
    method: &Method,
    uri: &http::Uri,
    body: &[u8],
) -> Option<Result<Vec<Value>, String>> {
    let done = match (method, uri.path()) {
        (&Method::GET, "/_/apns") => Ok(vec![health(service)]),
        (&Method::GET, "/_/apns/key") => make_key(service),
        (&Method::POST, "/_/apns/key") => given(body).and_then(|key| trust(service, &key)),
        (&Method::GET, "/_/apns/notifications") => query(uri).map(|mut wanted: Wanted| {
            wanted.limit = Some(wanted.limit.unwrap_or(PAGE_MAX).min(PAGE_MAX));
            listed(&service.notifications(&wanted))
        }),
        (&Method::GET, "/_/apns/shown") => {
            query(uri).map(|which: WhichDevice| listed(&service.shown(&which.token)))
        }
        (&Method::POST, "/_/apns/device") => given(body).and_then(|device: Device| {
            let made = service.device(device).map(|()| Vec::new());
            made.map_err(|full| full.to_string())
        }),
        (&Method::POST, "/_/apns/script") => given(body).and_then(|script: Script| {
            let made = service.script(script).map(|()| Vec::new());
            made.map_err(|full| full.to_string())
        }),
        (&Method::POST, "/_/apns/tell") => given(body).map(|tell| heed(service, tell)),
        _ => return None,
    };
    Some(done)
}

fn health(service: &Service) -> Value {
    json!({
        "origin": service.origin(),
        "ca_pem": service.pem(),
        "arrived": service.arrived(),
        "connections": service.connections(),
        "standing": service.standing(),
        "held": service.held(),
        "pings": service.pings(),
        "refused_streams": service.refused_streams(),
    })
}

fn make_key(service: &Service) -> Result<Vec<Value>, String> {
    let key = service.make_key().map_err(|error| error.to_string())?;
    serde_json::to_value(key)
        .map(|key| vec![key])
        .map_err(|error| error.to_string())
}

fn trust(service: &Service, key: &Key) -> Result<Vec<Value>, String> {
    let pair = rcgen::KeyPair::from_pem(&key.p8).map_err(|error| error.to_string())?;
    service.trust(&key.team, &key.key_id, pair.public_key_raw());
    Ok(Vec::new())
}

fn heed(service: &Service, tell: Tell) -> Vec<Value> {
    if let Some((first, then)) = tell.new_streams {
        service.streams(first, then);
    }
    if let Some(streams) = tell.streams {
        service.allow_streams(streams);
    }
    if let Some(hold) = tell.hold {
        service.hold(hold);
    }
    if let Some(go_away) = tell.go_away {
        service.go_away(&go_away.reason, go_away.processed);
    }
    if let Some(seconds) = tell.clock_ahead_s {
        service.clock_ahead(seconds);
    }
    if let Some(welcome) = tell.strangers {
        service.welcome_strangers(welcome);
    }
    Vec::new()
}

fn listed(objects: &[impl Serialize]) -> Vec<Value> {
    let values = objects.iter().map(serde_json::to_value);
    values.filter_map(Result::ok).collect()
}

fn given<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    serde_json::from_slice(body).map_err(|error| error.to_string())
}

fn query<T: serde::de::DeserializeOwned>(uri: &http::Uri) -> Result<T, String> {
    let axum::extract::Query(value) =
        axum::extract::Query::try_from_uri(uri).map_err(|error| error.body_text())?;
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(
        service: &Service,
        method: &Method,
        uri: &str,
        body: &str,
    ) -> Result<Vec<Value>, String> {
        let uri = uri.parse().unwrap();
        answer(service, method, &uri, body.as_bytes()).expect("the path is known")
    }

    #[test]
    fn what_is_told_is_heeded_and_what_is_not_understood_refused() {
        let service = Service::new((9, 9), "https://localhost:1".into(), "PEM".into());
        let post = |uri: &str, body: &str| ask(&service, &Method::POST, uri, body);
        let get = |uri: &str| ask(&service, &Method::GET, uri, "");
        let made = get("/_/apns/key").unwrap();
        assert_eq!(made[0]["team"].as_str().unwrap().len(), 10);
        assert_eq!(post("/_/apns/key", &made[0].to_string()), Ok(Vec::new()));
        assert!(post("/_/apns/key", r#"{"team":"a","key_id":"b","p8":"c"}"#).is_err());
        post("/_/apns/tell", r#"{"new_streams":[3,7],"strangers":false}"#).unwrap();
        assert_eq!(service.allowed_streams(), (3, 7));
        assert!(post("/_/apns/tell", r#"{"colour":1}"#).is_err());
        post("/_/apns/device", r#"{"token":"ab","app":"a.b"}"#).unwrap();
        post("/_/apns/script", r#"{"token":"*","acts":[{"status":503}]}"#).unwrap();
        assert_eq!(get("/_/apns/notifications?status=200"), Ok(Vec::new()));
        assert!(get("/_/apns/notifications?colour=1").is_err());
        assert_eq!(get("/_/apns/shown?token=ab"), Ok(Vec::new()));
        assert_eq!(get("/_/apns").unwrap()[0]["origin"], "https://localhost:1");
        let nowhere = answer(&service, &Method::GET, &"/_/apns/x".parse().unwrap(), b"");
        assert!(nowhere.is_none());
    }
}
