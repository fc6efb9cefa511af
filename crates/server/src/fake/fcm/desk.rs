//! FCM without sockets and without a clock: a request and a moment in, its answer out. For tests
//! that bring a network of their own.
//!
//! Absent here: scripts, records and devices.

use bytes::Bytes;
use http::Response;
use http::request::Parts;
use serde_json::{Value, json};

use super::send::{self, Refusal};
use super::token::{Accounts, TOKEN_PATH};
use super::{grant, let_in, project};

/// Projects and their token endpoint, for requests that come whole.
#[derive(Default)]
pub struct Desk(Accounts);

impl Desk {
    /// Another one with the same service accounts, and no tokens granted: a key takes a while to
    /// make.
    #[must_use]
    pub fn like(&self) -> Desk {
        Desk(self.0.like())
    }

    /// The service account of a project, as the text of the file that Google's console gives out;
    /// `origin` is where its tokens come from.
    #[must_use]
    pub fn account(&self, project: &str, origin: &str) -> String {
        self.0.account(project, origin).to_string()
    }

    /// Takes every access token back.
    pub fn revoke(&self) {
        self.0.revoke();
    }

    /// What the token endpoint under `origin` answers `now_s` seconds after 1970.
    #[must_use]
    pub fn grant(&self, head: &Parts, body: &Bytes, origin: &str, now_s: u64) -> Response<Bytes> {
        let audience = format!("{origin}{TOKEN_PATH}");
        let (http_status, said) = match head.uri.path() {
            TOKEN_PATH => grant(&self.0, (head, body), &audience, now_s),
            _ => (404, json!({ "error": "not_found" })),
        };
        spoken(http_status, &said)
    }

    /// What is answered to a request to send: the name under which it was taken, or why it was not.
    #[must_use]
    pub fn send(&self, head: &Parts, body: &Bytes, now_s: u64) -> Response<Bytes> {
        let Some(project) = project(head) else {
            return spoken(404, &Value::Null);
        };
        let let_in = let_in(&self.0, project, &head.headers, now_s);
        match let_in.and_then(|()| send::judge(body)) {
            Ok(_) => {
                let number = crc32c::crc32c(body);
                let name = format!("projects/{project}/messages/0:{now_s}%{number:08x}");
                spoken(200, &json!({ "name": name }))
            }
            Err(Refusal { http_status, body }) => spoken(http_status, &body),
        }
    }

    /// What Google says with this HTTP status, if it says anything with it.
    #[must_use]
    pub fn usual(http_status: u16) -> Response<Bytes> {
        let usual = send::usual(http_status).map(|usual| usual.body);
        spoken(http_status, &usual.unwrap_or_default())
    }
}

/// # Panics
/// If `http_status` is none.
fn spoken(http_status: u16, body: &Value) -> Response<Bytes> {
    let response = Response::builder()
        .status(http_status)
        .header("content-type", "application/json; charset=UTF-8");
    let response = response.body(body.to_string().into());
    response.expect("a status and a header")
}

#[cfg(test)]
mod tests {
    use super::Desk;
    use crate::channel::fcm::{ServiceAccount, oauth};
    use bytes::Bytes;
    use http_body_util::BodyExt as _;
    use postrider_core::time::Time;

    const NOW_S: u64 = 1_800_000_000;

    #[tokio::test]
    async fn a_desk_grants_a_token_and_lets_it_in_until_it_is_taken_back() {
        let desk = Desk::default();
        let account = ServiceAccount::parse(&desk.account("shop", "https://token.example"));
        let asked = oauth::request(&account.unwrap(), Time(1_000 * NOW_S.cast_signed()));
        let (head, body) = asked.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let granted = desk.grant(&head, &body, "https://token.example", NOW_S);
        assert_eq!(granted.status(), 200);
        let refused = desk.grant(&head, &body, "https://elsewhere.example", NOW_S);
        assert_eq!(refused.status(), 400);
        let granted: serde_json::Value = serde_json::from_slice(granted.body()).unwrap();
        let token = granted["access_token"].as_str().unwrap();
        let send = |desk: &Desk| {
            let request = http::Request::post("/v1/projects/shop/messages:send")
                .header("authorization", format!("Bearer {token}"));
            let (head, ()) = request.body(()).unwrap().into_parts();
            let body = Bytes::from_static(br#"{"message":{"token":"device","data":{}}}"#);
            desk.send(&head, &body, NOW_S).status().as_u16()
        };
        assert_eq!(send(&desk), 200);
        assert_eq!(send(&desk.like()), 401, "tokens are a desk's own");
        desk.revoke();
        assert_eq!(send(&desk), 401);
    }
}
