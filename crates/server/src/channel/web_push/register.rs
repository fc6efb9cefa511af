//! Which subscriptions are taken: on hosts of push services only, with keys that can be used.
//!
//! A subscription comes from a browser, so its URL is a stranger's word. Only hosts that are known
//! as push services are taken, unless the operator lists more.
//!
//! Absent here: storing, and network addresses. Whether a host may be reached is decided at the
//! moment of connecting.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use url::Url;

use super::encrypt::{Receiver, ReceiverFault};
use crate::channel::reaction::lies_in;
use crate::channel::reading::authority;

/// Hosts that are taken by default. `*.` stands for one label or more.
pub const PUSH_HOSTS: [&str; 4] = [
    "*.push.services.mozilla.com",
    "fcm.googleapis.com",
    "*.push.apple.com",
    "*.notify.windows.com",
];

/// Why a subscription is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubscriptionFault {
    /// Its endpoint is one of Google Cloud Messaging's, which was switched off in 2019.
    #[error(
        "endpoints of android.googleapis.com/gcm have been dead since 2019: let the browser \
         subscribe again"
    )]
    Gcm,
    /// Its endpoint is not on a host of a known push service.
    #[error(
        "{host:?} is no push service's host; the operator may allow others with \
         `push.extra_hosts`"
    )]
    Host {
        /// The host, with its port if it has one.
        host: String,
    },
    /// A key is not written as base64.
    #[error("`{0}` must be base64url, as the browser's `toJSON()` gives it")]
    Base64(&'static str),
    /// The keys cannot be used.
    #[error(transparent)]
    Keys(#[from] ReceiverFault),
}

/// Whether an endpoint is on a host that subscriptions are taken from: one of [`PUSH_HOSTS`], or
/// one of `extra`, which are written alike and may name a port.
///
/// # Errors
/// [`SubscriptionFault::Gcm`], [`SubscriptionFault::Host`].
pub fn check_host(url: &Url, extra: &[String]) -> Result<(), SubscriptionFault> {
    let host = url.host_str().unwrap_or_default();
    if lies_in(host, "android.googleapis.com") {
        return Err(SubscriptionFault::Gcm);
    }
    let default_port = url.port().is_none();
    let known = PUSH_HOSTS
        .iter()
        .any(|pattern| default_port && covers(pattern, host));
    let named = authority(url).unwrap_or_default();
    if known || extra.iter().any(|pattern| covers(pattern, &named)) {
        Ok(())
    } else {
        Err(SubscriptionFault::Host { host: named })
    }
}

/// Whether a pattern (`a.example`, `*.a.example`) means a host, label by label.
fn covers(pattern: &str, host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    match pattern.strip_prefix("*.") {
        Some(domain) => host.len() > domain.len() && lies_in(host, domain),
        None => host.eq_ignore_ascii_case(pattern),
    }
}

/// Reads and checks a subscription's keys as browsers give them.
///
/// # Errors
/// [`SubscriptionFault::Base64`], [`SubscriptionFault::Keys`].
pub fn read_keys(p256dh: &str, auth: &str) -> Result<Receiver, SubscriptionFault> {
    let p256dh = decode("p256dh", p256dh)?;
    Ok(Receiver::new(&p256dh, &decode("auth", auth)?)?)
}

/// Either alphabet, with or without padding: some libraries re-encode what the browser gave.
fn decode(field: &'static str, text: &str) -> Result<Vec<u8>, SubscriptionFault> {
    let text = text.trim_end_matches('=');
    let decoded = URL_SAFE_NO_PAD
        .decode(text)
        .or_else(|_| STANDARD_NO_PAD.decode(text));
    decoded.map_err(|_| SubscriptionFault::Base64(field))
}

#[cfg(test)]
mod tests {
    use super::{SubscriptionFault, check_host, read_keys};
    use crate::channel::web_push::encrypt::ReceiverFault;
    use url::Url;

    const P256DH: &str = "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZG\
        H6SRpkNtoIAiw4";
    const AUTH: &str = "BTBZMqHH6r4Tts7J_aSIgg";

    fn taken(url: &str, extra: &[&str]) -> bool {
        let extra: Vec<String> = extra.iter().map(|&host| host.to_owned()).collect();
        check_host(&Url::parse(url).unwrap(), &extra).is_ok()
    }

    #[test]
    fn only_push_services_are_taken_by_default() {
        for good in [
            "https://updates.push.services.mozilla.com/wpush/v2/x",
            "https://fcm.googleapis.com/fcm/send/x",
            "https://web.push.apple.com/x",
            "https://db5p.notify.windows.com/w/?token=x",
            "https://UPDATES.push.services.mozilla.COM./wpush/v2/x",
        ] {
            assert!(taken(good, &[]), "{good}");
        }
        for bad in [
            "https://push.services.mozilla.com/x",
            "https://evilpush.services.mozilla.com/x",
            "https://updates.push.services.mozilla.com.evil.example/x",
            "https://x.fcm.googleapis.com/x",
            "https://fcm.googleapis.com:444/x",
            "https://example.com/?host=fcm.googleapis.com",
            "https://fcm.googleapis.com@example.com/x",
            "https://127.0.0.1/x",
        ] {
            assert!(!taken(bad, &[]), "{bad}");
        }
    }

    #[test]
    fn others_by_opt_in_and_the_dead_never() {
        assert!(taken("https://push.example.org/x", &["push.example.org"]));
        assert!(taken("https://a.up.example.org/x", &["*.up.example.org"]));
        assert!(!taken(
            "https://a.push.example.org/x",
            &["push.example.org"]
        ));
        assert!(!taken(
            "https://push.example.org:8443/x",
            &["push.example.org"]
        ));
        assert!(taken("http://127.0.0.1:8030/x", &["127.0.0.1:8030"]));
        assert!(!taken("http://127.0.0.1:8031/x", &["127.0.0.1:8030"]));
        let gcm = Url::parse("https://android.googleapis.com/gcm/send/x").unwrap();
        let extra = ["android.googleapis.com".to_owned()];
        assert_eq!(check_host(&gcm, &extra), Err(SubscriptionFault::Gcm));
        let host = "127.0.0.1:8030".to_owned();
        let other = Url::parse("http://127.0.0.1:8030/x").unwrap();
        assert_eq!(
            check_host(&other, &[]),
            Err(SubscriptionFault::Host { host })
        );
    }

    #[test]
    fn keys_are_read_in_every_spelling_and_checked() {
        let standard = P256DH.replace('-', "+").replace('_', "/");
        for p256dh in [P256DH, &format!("{P256DH}="), &standard] {
            assert!(read_keys(p256dh, AUTH).is_ok(), "{p256dh}");
        }
        let fault = |p256dh, auth| read_keys(p256dh, auth).unwrap_err();
        assert_eq!(fault("!", AUTH), SubscriptionFault::Base64("p256dh"));
        assert_eq!(fault(P256DH, "a b"), SubscriptionFault::Base64("auth"));
        assert_eq!(fault(AUTH, AUTH), ReceiverFault::Point.into());
        assert_eq!(fault(P256DH, P256DH), ReceiverFault::Auth(65).into());
    }
}
