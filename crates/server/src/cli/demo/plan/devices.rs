//! The devices of a run: browsers and phones, and what their providers do to them.
//!
//! Absent here: how a provider does it; see `phones`.

use postrider_core::cause::Cause;
use postrider_core::endpoint::Channel;

use super::receivers::{Receiver, Way};
use crate::cli::demo::evidence::Nature;

/// What is the matter with a device, or with its provider's answers about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// What goes wrong with some of its requests.
    pub fault: Option<Fault>,
    /// Whether the app is there.
    pub presence: Presence,
}

/// How some answers go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The notification goes to the device, and no answer comes.
    Withheld,
    /// The notification goes to the device, and the connection or stream is reset.
    Reset,
    /// Too many requests: again in a second.
    Busy,
    /// The provider is not available.
    Down,
    /// The notification goes to the device, and the answer says that the provider failed.
    ActsAndFails,
}

/// Whether the app is still there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// As long as the run.
    Stays,
    /// Until the engine was killed for the first time.
    Leaves,
    /// It has left before the first notification.
    Gone,
}

/// The devices of one tenant.
#[rustfmt::skip]
pub(super) fn all(tenant: &str) -> Vec<Receiver> {
    use Channel::{Apns, Fcm, WebPush};
    use Fault::{ActsAndFails, Busy, Down, Reset, Withheld};
    use Nature::{Accepts, Relents};
    let (busy, device) = (Relents(Cause::RateLimited), Relents(Cause::DeviceThrottled));
    let (late, lost) = (Relents(Cause::RequestTimeout), Relents(Cause::ConnectionLost));
    let down = Relents(Cause::ServiceDegraded);
    let answering: [(&str, Channel, Nature, Option<Fault>); 18] = [
        ("web-good-1", WebPush, Accepts, None),
        ("web-good-2", WebPush, Accepts, None),
        ("web-withheld", WebPush, late, Some(Withheld)),
        ("web-reset", WebPush, lost, Some(Reset)),
        ("web-busy", WebPush, busy, Some(Busy)),
        ("web-down", WebPush, down, Some(Down)),
        ("web-acts-then-500", WebPush, down, Some(ActsAndFails)),
        ("apns-good-1", Apns, Accepts, None),
        ("apns-good-2", Apns, Accepts, None),
        ("apns-withheld", Apns, late, Some(Withheld)),
        ("apns-reset", Apns, lost, Some(Reset)),
        ("apns-busy", Apns, device, Some(Busy)),
        ("apns-down", Apns, down, Some(Down)),
        ("fcm-good-1", Fcm, Accepts, None),
        ("fcm-good-2", Fcm, Accepts, None),
        ("fcm-withheld", Fcm, late, Some(Withheld)),
        ("fcm-busy", Fcm, device, Some(Busy)),
        ("fcm-down", Fcm, down, Some(Down)),
    ];
    let stays = |fault| Trouble { fault, presence: Presence::Stays };
    let not = |presence| Trouble { fault: None, presence };
    let answering = answering.map(|(name, to, nature, fault)| (name, to, nature, stays(fault)));
    let leaving = [
        ("web-leaves", WebPush, Nature::Leaves, not(Presence::Leaves)),
        ("web-gone", WebPush, Nature::Gone, not(Presence::Gone)),
        ("apns-leaves", Apns, Nature::Leaves, not(Presence::Leaves)),
        ("apns-gone", Apns, Nature::Gone, not(Presence::Gone)),
        ("fcm-leaves", Fcm, Nature::Leaves, not(Presence::Leaves)),
        ("fcm-gone", Fcm, Nature::Gone, not(Presence::Gone)),
    ];
    answering
        .into_iter()
        .chain(leaving)
        .map(|(name, channel, nature, trouble)| Receiver {
            path: format!("/{tenant}/{name}"),
            nature,
            policy: "demo-patient",
            recipient: if name.ends_with("good-1") { "anna" } else { "" },
            event_type: if name.ends_with("good-2") { "stock.moved" } else { "" },
            way: Way::Device(channel, trouble),
        })
        .collect()
}
