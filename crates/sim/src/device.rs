//! Devices: what their owners see, and whether their providers reach them.
//!
//! A device remembers the ids that it has shown, as the packages for browsers and for Apple's
//! devices do, so that a repeat is shown once. Absent here: answers; see [`crate::remote`].

use std::collections::{BTreeMap, VecDeque};

use postrider_core::endpoint::Channel;
use postrider_core::id::CorrelationId;
use postrider_core::time::Time;

/// Ids that a device remembers.
const IDS_MAX: usize = 200;

/// A device that a person holds.
#[derive(Clone, Debug, Default)]
pub struct Device {
    /// Since when its address is of no use, on the provider's clock.
    left_at: Option<Time>,
    /// From when on the provider knows that it came back.
    heard_at: Time,
    seen: VecDeque<CorrelationId>,
    /// What its owner sees: the newest notification of each thread.
    tray: BTreeMap<Box<str>, CorrelationId>,
}

impl Device {
    /// It cannot be reached any more: the application was removed, say.
    pub fn leave(&mut self, now: Time) {
        self.left_at = Some(now);
        self.heard_at = Time::NEVER;
    }

    /// It has registered again, and its provider hears of it then.
    pub fn register(&mut self, heard_at: Time) {
        self.heard_at = heard_at;
    }

    /// Since when its provider thinks that it is gone, if it does. Only Apple's is slow to hear:
    /// elsewhere a new registration is a new address.
    #[must_use]
    pub fn gone(&self, now: Time, channel: Channel) -> Option<Time> {
        let came_back = self.heard_at < Time::NEVER && channel != Channel::Apns;
        self.left_at.filter(|_| now < self.heard_at && !came_back)
    }

    /// A notification arrives. Says which other one it took the place of, if it is shown at all.
    /// It takes the place of itself, or of those with its collapse key.
    pub fn take(
        &mut self,
        id: CorrelationId,
        collapse_key: &str,
        guards: bool,
    ) -> Option<Option<CorrelationId>> {
        if guards && self.seen.contains(&id) {
            return None;
        }
        self.seen.push_back(id);
        if self.seen.len() > IDS_MAX {
            self.seen.pop_front();
        }
        let thread = match collapse_key {
            "" => format!("{:x}", id.0).into(),
            key => key.into(),
        };
        Some(self.tray.insert(thread, id))
    }
}

#[cfg(test)]
mod tests {
    use super::{Device, IDS_MAX};
    use postrider_core::endpoint::Channel;
    use postrider_core::id::CorrelationId;
    use postrider_core::time::Time;

    #[test]
    fn a_repeat_is_shown_once_and_a_thread_has_one_place() {
        let mut device = Device::default();
        let mut show = |id, thread: &str| device.take(CorrelationId(id), thread, true);
        assert_eq!(show(1, ""), Some(None));
        assert_eq!(show(1, ""), None);
        assert_eq!(show(2, "score"), Some(None));
        assert_eq!(show(3, "score"), Some(Some(CorrelationId(2))));
        for id in 10..10 + IDS_MAX as u128 {
            assert_eq!(show(id, ""), Some(None));
        }
        assert_eq!(
            show(1, ""),
            Some(Some(CorrelationId(1))),
            "it has forgotten"
        );
    }

    #[test]
    fn apple_is_slow_to_hear_of_a_device_that_came_back() {
        let mut device = Device::default();
        assert_eq!(device.gone(Time(5), Channel::Apns), None);
        device.leave(Time(10));
        assert_eq!(device.gone(Time(90), Channel::Fcm), Some(Time(10)));
        device.register(Time(120));
        assert_eq!(device.gone(Time(119), Channel::Apns), Some(Time(10)));
        assert_eq!(device.gone(Time(120), Channel::Apns), None);
        assert_eq!(device.gone(Time(100), Channel::Fcm), None);
    }
}
