//! A client certificate instead of provider tokens.

use std::sync::Arc;

use postrider::fake::Tls;
use postrider::fake::apns::{Apns, Settings, Wanted};
use postrider::registry::{Credentials, Route, RouteDraft, TlsProfile};
use postrider_core::ledger::State;

use super::kit::{APP, Pass};
use super::node_kit::tenant;
use super::rig::Rig;

/// A service that lets in whom this authority answers for.
async fn service(ca_pem: &str) -> Apns {
    let tls = Tls {
        client_ca_pem: Some(ca_pem.to_owned()),
        ..Tls::default()
    };
    let settings = Settings {
        tls,
        ..Settings::default()
    };
    Apns::start(settings).await.unwrap()
}

fn profile(apns: &Apns, pass: &Pass) -> TlsProfile {
    pass.shown(TlsProfile {
        ca_pem: Some(apns.service().pem().to_owned()),
        ..TlsProfile::default()
    })
}

fn route(rig: &Rig, apns: &Apns, pass: &Pass) -> Arc<Route> {
    let draft = RouteDraft {
        name: "certified".to_owned(),
        credentials: Credentials::Apns {
            topic: APP.to_owned(),
            sandbox: false,
            signer: None,
        },
        server: Some(apns.service().origin().parse().unwrap()),
        tls: profile(apns, pass),
    };
    let now = rig.node.clock.now();
    let tenant = tenant(&rig.node);
    rig.node.registry.create_route(tenant, draft, now).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_takes_the_place_of_tokens() {
    let (rig, pass) = (Rig::start().await, Pass::new(2096));
    let apns = service(&pass.ca_pem).await;
    let route = route(&rig, &apns, &pass);
    let device = rig.device(&route, 1);
    rig.alert(std::slice::from_ref(&device), 1).await;
    super::node_kit::rest(&rig.node).await;
    assert_eq!(rig.row(device.id).state, State::Accepted);
    let came = apns.service().notifications(&Wanted::default());
    assert_eq!((came.len(), came[0].issued_s), (1, 0), "no token was shown");
    rig.node.stop().unwrap();
}
