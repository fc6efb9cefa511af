//! APNs without sockets and without a clock: a request and a moment in, its answer out. For tests
//! that bring a network of their own.
//!
//! Absent here: records, delays and silence. Scripts are heeded as far as they are answers.

use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use http::{Response, header};

use super::frames::Control;
use super::model::Act;
use super::said;
use super::service::{Line, Service, look};

/// One connection's place at a service that has no sockets: the key that the connection belongs to,
/// and whether it has seen an expired token.
pub struct Desk {
    service: Arc<Service>,
    line: Arc<Line>,
}

impl Desk {
    /// A service of which desks are had, and nothing else listens for.
    #[must_use]
    pub fn service(origin: &str) -> Arc<Service> {
        Service::new((0, 0), origin.to_owned(), String::new())
    }

    /// For one new connection.
    #[must_use]
    pub fn new(service: &Arc<Service>) -> Desk {
        Desk {
            line: service.line(Arc::new(Control::default()), false),
            service: Arc::clone(service),
        }
    }

    /// What is answered to a request that came whole, `now_s` seconds after 1970.
    #[must_use]
    pub fn answer(&self, head: &Parts, body: &[u8], now_s: i64) -> Response<Bytes> {
        let authorization = head.headers.get(header::AUTHORIZATION);
        let authorization = authorization.map(|value| value.to_str().unwrap_or_default());
        let looked = look(head, body);
        let id = looked.as_ref().ok().and_then(|(_, asked)| asked.id.clone());
        let judged = looked.and_then(|(token, asked)| {
            let about = (token.as_str(), &asked);
            self.service.judge(&self.line, authorization, about, now_s)
        });
        let act = match judged {
            Ok((_, act)) => act,
            Err((http_status, reason)) => Act::refuse(http_status, reason),
        };
        let (response, body) = said(&act, id);
        response.map(|()| body)
    }
}

#[cfg(test)]
mod tests {
    use super::Desk;
    use crate::channel::apns::ProviderTokens;
    use postrider_core::time::Time;

    const NOW_S: i64 = 1_800_000_000;

    #[test]
    fn a_desk_lets_in_who_may_send_and_nobody_after_an_expired_token() {
        let service = Desk::service("https://apns.example");
        let key = service.make_key().unwrap();
        let tokens = ProviderTokens::new(&key.team, &key.key_id, &key.p8).unwrap();
        let ask = |desk: &Desk, now_s: i64, bearer: bool| {
            let request = http::Request::post(format!("/3/device/{:064x}", 7))
                .header("apns-topic", "com.example.app")
                .header("apns-push-type", "alert");
            let request = match bearer {
                true => request.header("authorization", tokens.bearer(Time(NOW_S * 1_000))),
                false => request,
            };
            let (head, ()) = request.body(()).unwrap().into_parts();
            let answer = desk.answer(&head, br#"{"aps":{"alert":"x"}}"#, now_s);
            (answer.status().as_u16(), answer.into_body())
        };
        let desk = Desk::new(&service);
        assert_eq!(ask(&desk, NOW_S, true).0, 200);
        let (http_status, body) = ask(&desk, NOW_S, false);
        assert_eq!(
            (http_status, &*body),
            (403, &br#"{"reason":"MissingProviderToken"}"#[..])
        );
        let expired = (403, br#"{"reason":"ExpiredProviderToken"}"#.to_vec().into());
        assert_eq!(ask(&desk, NOW_S + 3_600, true), expired);
        assert_eq!(ask(&desk, NOW_S, true), expired, "the connection is spoilt");
        assert_eq!(ask(&Desk::new(&service), NOW_S, true).0, 200);
    }
}
