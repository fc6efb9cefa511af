//! Registration: whether an address can be a push endpoint of a route, and how it is spelled.
//!
//! Absent here: keeping it, which is the registry's; and reaching it.

use url::Url;

use super::web_push::register;
use super::{apns, fcm};
use crate::registry::{ApnsDevice, Credentials, FcmTarget, Kind, Route, WebPushKeys};

/// Characters of a registration token or an installation id of Firebase at most.
const FCM_CHARS_MAX: usize = 4_096;

/// An address that cannot be registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfit {
    /// Which field of the registration.
    pub field: &'static str,
    /// Its value, where it may be shown.
    pub value: String,
    /// What it must be.
    pub rule: &'static str,
    /// What is wrong with it.
    pub detail: String,
}

impl Unfit {
    fn new(field: &'static str, rule: &'static str, detail: impl ToString) -> Unfit {
        Unfit {
            field,
            value: String::new(),
            rule,
            detail: detail.to_string(),
        }
    }
}

/// A push subscription: its endpoint, on a known push service or one of `hosts`, and its keys. It
/// was made with `made_with`, or with the newest key of the route.
///
/// # Errors
/// [`Unfit`].
pub fn web_push(
    route: &Route,
    (hosts, allow_http): (&[String], bool),
    endpoint: &str,
    [p256dh, auth]: [&str; 2],
    made_with: Option<&str>,
) -> Result<(Url, Kind), Unfit> {
    let Credentials::WebPush { keys, .. } = &route.credentials else {
        return Err(foreign(route));
    };
    let rule = "must be the endpoint of a push service that may be reached";
    let unfit = |detail: String| Unfit::new("web_push.endpoint", rule, detail);
    let url = Url::parse(endpoint).map_err(|fault| unfit(fault.to_string()))?;
    register::check_host(&url, hosts).map_err(|fault| unfit(fault.to_string()))?;
    if url.scheme() != "https" && !(allow_http && url.scheme() == "http") {
        return Err(unfit("it must begin with https://".into()));
    }
    let rule = "must be the keys of a push subscription, in base64url";
    register::read_keys(p256dh, auth).map_err(|fault| Unfit::new("web_push.keys", rule, fault))?;
    let made_with = made_with.map(|key| key.trim_end_matches('='));
    let vapid_key = match made_with {
        None => keys.first(),
        Some(public) => keys.iter().find(|key| key.public == public),
    };
    let Some(vapid_key) = vapid_key else {
        let rule = "must be one of the route's public keys; see /v1/routes";
        let fault = "the subscription was made with another key: let the client subscribe again";
        return Err(Unfit::new("web_push.application_server_key", rule, fault));
    };
    let keys = WebPushKeys {
        p256dh: p256dh.to_owned(),
        auth: auth.to_owned(),
        vapid_key: vapid_key.public.clone(),
    };
    Ok((url, Kind::WebPush(keys)))
}

/// An Apple device.
///
/// # Errors
/// [`Unfit`].
pub fn apns(route: &Route, token: &str) -> Result<(Url, Kind), Unfit> {
    let Credentials::Apns { sandbox, .. } = route.credentials else {
        return Err(foreign(route));
    };
    let rule = "must be a device token in hexadecimal";
    let unfit = |detail: String| Unfit::new("apns.token", rule, detail);
    let token = apns::device_token(token).map_err(|fault| unfit(fault.to_string()))?;
    let origin = match &route.server {
        Some(server) => server.to_string(),
        None => format!("https://{}", apns::Environment::of(sandbox).host()),
    };
    let url = apns::device_url(&origin, &token).map_err(|fault| unfit(fault.to_string()))?;
    Ok((url, Kind::Apns(ApnsDevice { token })))
}

/// A device that Firebase Cloud Messaging reaches.
///
/// # Errors
/// [`Unfit`].
pub fn fcm(route: &Route, target: FcmTarget) -> Result<(Url, Kind), Unfit> {
    use secrecy::ExposeSecret as _;
    let Credentials::Fcm { service_account } = &route.credentials else {
        return Err(foreign(route));
    };
    let (field, text) = match &target {
        FcmTarget::Token(token) => ("fcm.token", token),
        FcmTarget::Fid(fid) => ("fcm.fid", fid),
    };
    let plain = text.bytes().all(|byte| byte.is_ascii_graphic());
    if !plain || !(1..=FCM_CHARS_MAX).contains(&text.len()) {
        let rule = "must be 1 to 4,096 visible characters";
        return Err(Unfit::new(field, rule, ""));
    }
    let rule = "must be on a route with a service account that can be used";
    let project = fcm::account::project(service_account.expose_secret())
        .map_err(|fault| Unfit::new("route", rule, fault))?;
    let url = match &route.server {
        None => fcm::send_url(&project),
        Some(server) => {
            let mut url = server.clone();
            url.set_path(fcm::send_url(&project).path());
            url
        }
    };
    Ok((url, Kind::Fcm(target)))
}

fn foreign(route: &Route) -> Unfit {
    let rule = "must be a route of the device's channel";
    let channel = route.credentials.channel().name();
    Unfit {
        value: route.name.clone(),
        ..Unfit::new("route", rule, format!("it is one of {channel}"))
    }
}
