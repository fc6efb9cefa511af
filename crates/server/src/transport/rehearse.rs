//! Rehearsals: what an attempt would come to, as far as that can be said without anybody being
//! told. The request is written as the attempt would write it; Google looks at it besides and sends
//! nothing (`validateOnly`).
//!
//! Absent here: consequences. No endpoint is retired, no route held, nothing recorded, and what is
//! known of a project's quota and token stays as it is.

use std::sync::Arc;

use hyper::body::Body as _;
use postrider_core::cause::Cause;
use postrider_core::dispatch::Dispatch;
use postrider_core::event::Event;
use postrider_core::outcome::OutcomeKind;
use postrider_core::time::Time;

use super::Transport;
use super::lines::{Errand, Kit, Line, Prepared as Way, Push, web_push_request};
use crate::channel::reading::unsendable;
use crate::channel::webhook::Webhook;
use crate::channel::{Attempted, Channel as _, Request, Told, apns, redact};
use crate::registry::Endpoint;

/// What came of a rehearsal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rehearsed {
    /// Bytes of the body that would be sent; `None` where none could be written, or where only the
    /// provider was asked.
    pub body_bytes: Option<u64>,
    /// What the attempt would come to, where that is known: it cannot be made, or the provider was
    /// asked.
    pub attempted: Option<Attempted>,
}

impl Rehearsed {
    fn of(written: Result<Request, Attempted>) -> Rehearsed {
        match written {
            Ok(request) => Rehearsed {
                body_bytes: request.body().size_hint().exact(),
                attempted: None,
            },
            Err(unsent) => Rehearsed::told(unsent),
        }
    }

    fn told(attempted: Attempted) -> Rehearsed {
        Rehearsed {
            body_bytes: None,
            attempted: Some(attempted),
        }
    }
}

impl Transport {
    /// What an attempt to tell `endpoint` of `event` would come to.
    pub async fn rehearse(
        &self,
        endpoint: &Arc<Endpoint>,
        event: &Event,
        dispatch: &Dispatch,
        now: Time,
    ) -> Rehearsed {
        let errand = Errand {
            event,
            dispatch,
            now,
            leave_by: None,
        };
        let rehearsed = match &self.prepared(endpoint).line {
            Ok(line) => self.rehearse_over(line, errand).await,
            Err(fault) => Rehearsed::told(fault.attempted(now)),
        };
        let attempted = rehearsed.attempted;
        Rehearsed {
            attempted: attempted.map(|it| redact::without_address(it, endpoint)),
            ..rehearsed
        }
    }

    async fn rehearse_over(&self, line: &Line, errand: Errand<'_>) -> Rehearsed {
        let Errand {
            event,
            dispatch,
            now,
            ..
        } = errand;
        let told = |push: &Push| Told::of(event, dispatch, &push.receipts);
        match (&line.way, self.push.get()) {
            (Way::Webhook(prepared), _) => {
                Rehearsed::of(Ok(Webhook.encode(prepared, event, dispatch, now)))
            }
            (_, None) => {
                let unusable = unsendable(OutcomeKind::Reject, Cause::RouteUnusable, "");
                Rehearsed::told(unusable)
            }
            (Way::WebPush(prepared), Some(push)) => {
                Rehearsed::of(web_push_request(push, prepared, &told(push), now))
            }
            (Way::Apns { prepared, kit, .. }, Some(push)) => {
                let bearer = match &**kit {
                    Kit::Apns { tokens, .. } => tokens.as_ref().map(|tokens| tokens.bearer(now)),
                    _ => None,
                };
                let written = apns::encode(prepared, bearer, &told(push), now);
                Rehearsed::of(written.map_err(|fault| apns::unfit(&fault)))
            }
            (Way::Fcm(way), Some(push)) => {
                let told = (&told(push), true);
                let asked = line.fcm(&self.client, push, way, told, errand);
                Rehearsed::told(asked.await.0)
            }
        }
    }
}
