//! A client certificate instead of provider tokens.

use std::sync::Arc;

use postrider::fake::Tls;
use postrider::fake::apns::{Act, Apns, Script, Settings, Wanted};
use postrider::registry::{Credentials, Route, RouteDraft, TlsProfile, TlsVersion};
use postrider_core::cause::Cause;
use postrider_core::ledger::{Delivery, Fact, State};

use super::kit::{APP, Pass, token};
use super::node_kit::tenant;
use super::rig::{Rig, eventually};

/// A service that lets in whom this authority answers for.
async fn service(ca_pem: &str, only_1_2: bool) -> Apns {
    let tls = Tls {
        client_ca_pem: Some(ca_pem.to_owned()),
        only_1_2,
        ..Tls::default()
    };
    let settings = Settings {
        tls,
        ..Settings::default()
    };
    Apns::start(settings).await.unwrap()
}

fn profile(apns: &Apns, pass: &Pass, only_1_2: bool) -> TlsProfile {
    pass.shown(TlsProfile {
        ca_pem: Some(apns.service().pem().to_owned()),
        min_version: match only_1_2 {
            true => TlsVersion::V1_2,
            false => TlsVersion::V1_3,
        },
        ..TlsProfile::default()
    })
}

fn route(rig: &Rig, apns: &Apns, pass: &Pass, only_1_2: bool) -> Arc<Route> {
    let draft = RouteDraft {
        name: "certified".to_owned(),
        credentials: Credentials::Apns {
            topic: APP.to_owned(),
            sandbox: false,
            signer: None,
        },
        server: Some(apns.service().origin().parse().unwrap()),
        tls: profile(apns, pass, only_1_2),
    };
    let now = rig.node.clock.now();
    let tenant = tenant(&rig.node);
    rig.node.registry.create_route(tenant, draft, now).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_takes_the_place_of_tokens() {
    let (rig, pass) = (Rig::start().await, Pass::new(2096));
    let apns = service(&pass.ca_pem, false).await;
    let route = route(&rig, &apns, &pass, false);
    let device = rig.device(&route, 1);
    rig.alert(std::slice::from_ref(&device), 1).await;
    super::node_kit::rest(&rig.node).await;
    assert_eq!(rig.row(device.id).state, State::Accepted);
    let came = apns.service().notifications(&Wanted::default());
    assert_eq!((came.len(), came[0].issued_s), (1, 0), "no token was shown");
    rig.node.stop().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_is_refused_holds_the_route_until_another_is_given() {
    let (right, foreign, expired) = (Pass::new(2096), Pass::new(2096), Pass::new(2021));
    let both = format!("{}{}", right.ca_pem, expired.ca_pem);
    let tls_1_2 = true;
    for (what, pass, trusted, only_1_2) in [
        ("UnknownCA", &foreign, &right.ca_pem, false),
        ("CertificateExpired", &expired, &both, false),
        ("CertificateExpired", &expired, &both, tls_1_2),
    ] {
        let (rig, apns) = (Rig::start().await, service(trusted, only_1_2).await);
        let route = route(&rig, &apns, pass, only_1_2);
        let devices = [rig.device(&route, 1), rig.device(&route, 2)];
        rig.alert(&devices[..1], 1).await;
        let held = || rig.row(devices[0].id).unspent > 0;
        eventually(what, held).await;
        let row = rig.row(devices[0].id);
        assert_eq!(
            (row.state, row.cause),
            (State::Scheduled, Cause::AuthFailure)
        );
        let evidence = evidence(&rig, &row);
        let expected = format!("our certificate was refused: {what}");
        assert!(evidence.contains(&expected), "{evidence:?}");
        rig.alert(&devices[1..], 2).await;
        assert_eq!(apns.service().arrived(), 0, "nothing got through");
        let now = rig.node.clock.now();
        let renewed = rig.node.registry.change_route(route.id, now, |route| {
            route.tls = profile(&apns, &right, only_1_2);
            Ok(())
        });
        renewed.unwrap();
        super::node_kit::rest(&rig.node).await;
        for device in &devices {
            assert_eq!(rig.row(device.id).state, State::Accepted, "{what}");
        }
        rig.node.stop().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_apple_says_of_a_certificate_holds_the_route() {
    let (rig, pass) = (Rig::start().await, Pass::new(2096));
    let apns = service(&pass.ca_pem, false).await;
    let route = route(&rig, &apns, &pass, false);
    let refused = Script {
        token: token(1),
        acts: [Act::refuse(403, "BadCertificate")].into(),
        forever: true,
    };
    apns.service().script(refused).unwrap();
    let device = rig.device(&route, 1);
    rig.alert(std::slice::from_ref(&device), 1).await;
    eventually("held", || rig.row(device.id).unspent == 1).await;
    // A certificate of the wrong environment is refused in a GOAWAY, and nowhere else.
    let other = rig.device(&route, 2);
    let open = rig
        .node
        .registry
        .change_route(route.id, rig.node.clock.now(), |_| Ok(()));
    open.unwrap();
    apns.service().hold(true);
    rig.alert(std::slice::from_ref(&other), 2).await;
    eventually("a request", || apns.service().held() > 0).await;
    apns.service().go_away("BadCertificateEnvironment", 0);
    eventually("held again", || rig.row(other.id).unspent > 0).await;
    let row = rig.row(other.id);
    assert_eq!(
        (row.state, row.cause),
        (State::Scheduled, Cause::AuthFailure)
    );
    let evidence = evidence(&rig, &row);
    assert!(
        evidence.contains("BadCertificateEnvironment"),
        "{evidence:?}"
    );
    rig.node.stop().unwrap();
}

/// What was kept of every answer.
fn evidence(rig: &Rig, row: &Delivery) -> String {
    let entries = rig.node.reader.history(row).unwrap();
    let kept = entries.iter().filter_map(|entry| match &entry.fact {
        Fact::Answered { outcome, .. } => Some(String::from_utf8_lossy(&outcome.evidence)),
        _ => None,
    });
    kept.collect::<Vec<_>>().join("\n")
}
