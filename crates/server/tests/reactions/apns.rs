//! APNs: the list, from Apple's "Handling notification responses from APNs".

use std::sync::Arc;

use postrider::channel::{apns, registration};
use postrider::fake::Tls;
use postrider::fake::apns::{Act, Apns, Script, Settings, Wanted};
use postrider::registry::{ApnsSigner, Credentials, Kind, Route, RouteDraft, TlsProfile};
use postrider::run::Node;
use postrider_core::cause::Cause;
use postrider_core::endpoint::Channel;
use url::Url;

use super::apple::{APP, Key, Pass, token};
use super::kit::{
    Case, End, Said, accepted, again, credential, dead, later, our_fault, renewed, slower,
    table_and_list_know_the_same,
};
use super::node_kit::{config, tenant};
use super::stage::{Provider, play, policy};

/// A provider that signs tokens, and one for whom a certificate speaks.
const SIGNS: &str = "signs";
const CERTIFIED: &str = "certified";
const QUARTER_S: i64 = 900;

fn said(http_status: u16, reason: &str) -> Said {
    let body = serde_json::json!({ "reason": reason });
    Said::new(http_status, body.to_string())
}

fn apple(http_status: u16, reason: &str, end: End) -> Case {
    Case::new(SIGNS, said(http_status, reason), reason, end)
}

/// The same where there is no token that could be another one.
fn certified(http_status: u16, reason: &str, end: End) -> Case {
    let again = format!("{reason} again");
    Case::new(CERTIFIED, said(http_status, reason), &again, end)
}

/// Of too many renewals: the token before is presented, where Apple still takes it. It is made for
/// the half hour before, from a minute after its beginning, and counts for 59 minutes.
fn renewed_too_often() -> End {
    let now = std::time::UNIX_EPOCH.elapsed().expect("after 1970");
    let age_s = (now.as_secs() - 60) % 1_800 + 60 + 1_800;
    match age_s < 59 * 60 {
        true => slower(Cause::RateLimited, 0),
        false => waits_out_renewals(),
    }
}

fn waits_out_renewals() -> End {
    End {
        alert: true,
        ..slower(Cause::RateLimited, 1_200)
    }
}

fn of_requests() -> Vec<Case> {
    let bug = |reason| apple(400, reason, our_fault(Cause::BadRequest));
    vec![
        apple(200, "", accepted()),
        bug("BadCollapseId"),
        bug("BadExpirationDate"),
        bug("BadMessageId"),
        bug("BadPriority"),
        bug("BadTopic"),
        bug("DuplicateHeaders"),
        bug("InvalidPushType"),
        bug("MissingDeviceToken"),
        bug("MissingTopic"),
        bug("PayloadEmpty"),
        apple(404, "BadPath", our_fault(Cause::BadRequest)),
        apple(405, "MethodNotAllowed", our_fault(Cause::BadRequest)),
        apple(413, "PayloadTooLarge", our_fault(Cause::PayloadTooLarge)),
        apple(403, "Forbidden", our_fault(Cause::AuthFailure)),
    ]
}

fn of_devices() -> Vec<Case> {
    vec![
        apple(400, "BadDeviceToken", dead(Cause::BadToken)),
        apple(400, "DeviceTokenNotForTopic", dead(Cause::KeyMismatch)),
        apple(400, "ExpiredToken", dead(Cause::Gone)),
        apple(410, "ExpiredToken", dead(Cause::Gone)),
        apple(410, "Unregistered", dead(Cause::Gone)),
        apple(410, "", dead(Cause::Gone)),
        apple(429, "TooManyRequests", slower(Cause::DeviceThrottled, 60)),
    ]
}

fn of_credentials() -> Vec<Case> {
    vec![
        apple(400, "TopicDisallowed", credential()),
        apple(403, "BadCertificate", credential()),
        apple(403, "BadCertificateEnvironment", credential()),
        apple(403, "BadEnvironmentKeyIdInToken", credential()),
        apple(403, "BadEnvironmentKeyInToken", credential()),
        apple(403, "InvalidProviderToken", credential()),
        apple(403, "MissingProviderToken", credential()),
        // The first time another token helps; where there is none it is the clock or the key.
        apple(403, "ExpiredProviderToken", renewed(0)),
        certified(403, "ExpiredProviderToken", credential()),
        apple(403, "UnrelatedKeyIdInToken", renewed(0)),
        certified(429, "TooManyProviderTokenUpdates", waits_out_renewals()),
    ]
}

fn of_trouble() -> Vec<Case> {
    let late = || later(QUARTER_S);
    vec![
        apple(400, "IdleTimeout", again(Cause::ConnectionLost, 0)),
        apple(500, "InternalServerError", late()),
        apple(503, "ServiceUnavailable", late()),
        apple(503, "Shutdown", late()),
    ]
}

fn of_anything() -> Vec<Case> {
    let timeout = End {
        acted: true,
        ..again(Cause::RequestTimeout, 0)
    };
    vec![
        apple(201, "", accepted()),
        apple(302, "", our_fault(Cause::Redirected)),
        apple(401, "", credential()),
        apple(403, "SomethingNew", credential()),
        apple(408, "", timeout),
        apple(413, "", our_fault(Cause::PayloadTooLarge)),
        apple(429, "", slower(Cause::RateLimited, 60)),
        apple(502, "", later(QUARTER_S)),
        apple(400, "SomethingNew", our_fault(Cause::ClientError)).unheard_of(),
        apple(600, "", our_fault(Cause::Unresolved)).unheard_of(),
    ]
}

fn list() -> Vec<Case> {
    // What depends on the time of day comes first, before that passes.
    let first = Case {
        reason: "TooManyProviderTokenUpdates".into(),
        ..apple(429, "TooManyProviderTokenUpdates", renewed_too_often())
    };
    let all = [
        vec![first],
        of_requests(),
        of_devices(),
        of_credentials(),
        of_trouble(),
        of_anything(),
    ];
    all.into_iter().flatten().collect()
}

#[test]
fn table_and_list_of_apns_know_the_same() {
    let mut list = list();
    list[0].end.alert = false;
    table_and_list_know_the_same("apns.toml", apns::REACTIONS, &list);
}

struct Apple {
    signs: Apns,
    certified: Apns,
    key: Key,
    pass: Pass,
}

impl Apple {
    async fn start() -> Apple {
        let pass = Pass::new(2096);
        let signs = Apns::start(Settings::default()).await.expect("a fake");
        let tls = Tls {
            client_ca_pem: Some(pass.ca_pem.clone()),
            ..Tls::default()
        };
        let settings = Settings {
            tls,
            ..Settings::default()
        };
        let certified = Apns::start(settings).await.expect("a fake");
        let key = Key::new();
        key.trusted_by(signs.service());
        Apple {
            signs,
            certified,
            key,
            pass,
        }
    }

    fn of(&self, from: &str) -> &Apns {
        match from {
            CERTIFIED => &self.certified,
            _ => &self.signs,
        }
    }
}

impl Provider for Apple {
    fn channel(&self) -> Channel {
        Channel::Apns
    }

    fn route(&self, node: &Node, from: &str, name: &str) -> Arc<Route> {
        let service = self.of(from).service();
        let signer = ApnsSigner {
            team: self.key.team.into(),
            key_id: self.key.id.into(),
            key_pem: self.key.p8.clone().into(),
        };
        let is_certified = from == CERTIFIED;
        let tls = TlsProfile {
            ca_pem: Some(service.pem().to_owned()),
            ..TlsProfile::default()
        };
        let draft = RouteDraft {
            name: name.to_owned(),
            credentials: Credentials::Apns {
                topic: APP.to_owned(),
                sandbox: false,
                signer: (!is_certified).then_some(signer),
            },
            server: Some(service.origin().parse().expect("a URL")),
            tls: match is_certified {
                true => self.pass.shown(tls),
                false => tls,
            },
        };
        let now = node.clock.now();
        let made = node.registry.create_route(tenant(node), draft, now);
        made.expect("a route")
    }

    fn device(&self, route: &Route, from: &str, number: u32, said: &Said) -> (Url, Kind) {
        let words: serde_json::Value = serde_json::from_str(&said.body).expect("JSON");
        let reason = words["reason"].as_str().expect("a reason");
        let script = Script {
            token: token(number),
            acts: [Act::refuse(said.http_status, reason)].into(),
            forever: true,
        };
        self.of(from).service().script(script).expect("a script");
        registration::apns(route, &token(number)).expect("a token")
    }

    fn address(&self, number: u32) -> String {
        token(number)
    }

    fn arrived(&self, from: &str, number: u32) -> usize {
        let wanted = Wanted {
            token: Some(token(number)),
            ..Wanted::default()
        };
        self.of(from).service().notifications(&wanted).len()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answer_of_apns_leads_where_it_must() {
    let provider = Apple::start().await;
    let dir = tempfile::tempdir().expect("a directory");
    play(&config(dir.path(), policy()), &provider, &list()).await;
}
