//! The wire: from the engine's leave to send, over the last look, to the receiver and back.
//!
//! Absent here: what an answer means to the engine.

use postrider_core::cause::Cause;
use postrider_core::dispatch::Dispatch;
use postrider_core::endpoint::Channel;
use postrider_core::engine::Input;
use postrider_core::id::EndpointId;
use postrider_core::outcome::Outcome;
use postrider_core::time::SECOND_MS;

use super::{Due, Inside, World};
use crate::fault::Behaviour;
use crate::history::{Happened, Who};
use crate::node::Flight;
use crate::plant::WorldPlant;
use crate::remote::{Answer, CONNECT_MS, RESPONSE_MS, blocked, gone, timed_out, unsent};
use crate::store::Reader as _;

/// Hand-overs of a hundred that a device reports something about.
const RECEIPTS_PERCENT: u64 = 12;
/// Longest time that a thread is stopped between the last look and the first byte.
const STOPPED_MS_MAX: i64 = 90 * SECOND_MS;

impl World {
    /// The last look before a request is written: at the lease, and at the time to live. A process
    /// that is stopped after it writes late; nothing can prevent that.
    pub(super) fn leave(&mut self, node: usize, who: Who, dispatch: Dispatch) {
        let (Some(stand), Some(at)) = (self.stand(node, who), self.engine_now(node, who)) else {
            return;
        };
        if !dispatch.may_leave(stand, at) {
            let put_back = Input::NotSent {
                delivery: dispatch.delivery,
                attempt: dispatch.attempt,
                cause: Cause::Deferred,
            };
            return self.feed(node, who, put_back);
        }
        let left = Happened::Left {
            who,
            at,
            dispatch: &dispatch,
        };
        self.eyes.see(self.now, &left);
        // Between the look and the first byte its thread may be stopped for as long as it likes.
        let stopped = self.rng.below(2_000) == 0;
        let ms = match stopped {
            true => self.rng.between(0, STOPPED_MS_MAX),
            false => self.pause(node),
        };
        self.inside(node, ms, Inside::Write(who, Box::new(dispatch)));
    }

    /// Connects and writes.
    pub(super) fn write(&mut self, node: usize, who: Who, dispatch: Dispatch) {
        self.last_flight += 1;
        let (flight, life) = (self.last_flight, self.nodes[node].life);
        let receiver = self.receivers.entry(dispatch.endpoint).or_default();
        let behaves = receiver.behaves(self.now);
        let cut = self.now < self.nodes[node].remote_to_cut;
        let kept_connection = self.rng.percent(50);
        let refused = match behaves {
            Behaviour::Refuses => Some((Cause::ConnectRefused, 1)),
            Behaviour::ResetsBefore => Some((Cause::ConnectFailed, 2)),
            _ if cut && !kept_connection => Some((Cause::ConnectTimeout, CONNECT_MS)),
            _ => None,
        };
        let written = Flight {
            who,
            dispatch: dispatch.clone(),
            began_at: self.now,
        };
        self.nodes[node].flights.insert(flight, written);
        if let Some((cause, ms)) = refused {
            let answer = Answer::Outcome(Box::new(unsent(cause)));
            return self.inside(node, ms, Inside::Arrived(flight, answer));
        }
        let dispatch_ref = &dispatch;
        let written = Happened::Written {
            who,
            dispatch: dispatch_ref,
        };
        self.eyes.see(self.now, &written);
        self.inside(node, RESPONSE_MS, Inside::TimedOut(flight));
        if !cut {
            let ms = self.rng.between(1, 40);
            let request = Due::Request(node, life, flight, who, Box::new(dispatch));
            self.after(ms, request);
        }
    }

    /// A request arrives.
    pub(super) fn request(
        &mut self,
        node: usize,
        life: u64,
        flight: u64,
        who: Who,
        dispatch: Dispatch,
    ) {
        let (processed, answer, ms) = self.received(dispatch.endpoint);
        let arrived = Happened::Arrived {
            correlation: dispatch.correlation,
            attempt: dispatch.attempt,
            processed,
        };
        self.eyes.see(self.now, &arrived);
        if processed {
            self.shows(who.shard, &dispatch);
        }
        if processed && self.rng.percent(RECEIPTS_PERCENT) {
            let ms = self.rng.pick(&[1, 60, 3_000, 90_000]);
            let kind = self.rng.pick(&[1, 1, 2]);
            self.after(ms, Due::Report(who.shard, dispatch.delivery, kind));
        }
        if answer == Answer::Unprocessed {
            let correlation = dispatch.correlation;
            self.eyes
                .see(self.now, &Happened::Unprocessed { correlation });
        }
        if answer != Answer::Silence {
            let ms = ms + self.rng.between(1, 40);
            self.after(ms, Due::Answer(node, life, flight, answer));
        }
    }

    /// What the receiver or the provider makes of a request: whether it is processed, the answer,
    /// and after how long.
    fn received(&mut self, endpoint: EndpointId) -> (bool, Answer, i64) {
        let (now, listed) = (self.now, self.registry.get(&endpoint));
        let channel = listed.map_or(Channel::Webhook, |listed| listed.spec.channel);
        let route = listed.and_then(|listed| listed.spec.route);
        let refused = route.and_then(|route| self.refused.get(&route));
        if refused.is_some_and(|until| now < *until) {
            return (false, blocked(), 2);
        }
        let device = self.devices.get(&endpoint).filter(|_| channel.is_push());
        if let Some(since) = device.and_then(|device| device.gone(now, channel)) {
            return (false, gone(channel, since), 2);
        }
        let receiver = self.receivers.entry(endpoint).or_default();
        receiver.takes(channel, now, &mut self.rng)
    }

    /// A device gets a notification, and shows it unless it has before.
    fn shows(&mut self, shard: usize, dispatch: &Dispatch) {
        let event = self.shards[shard].reader.event(dispatch.event);
        let Some(event) = event.ok().flatten().filter(|_| self.is_device(dispatch)) else {
            return;
        };
        let guards = !self.planted(WorldPlant::GuardForgotten);
        let device = self.devices.entry(dispatch.endpoint).or_default();
        let shown = device.take(dispatch.correlation, &event.collapse_key, guards);
        if let Some(replaced) = shown {
            let shown = Happened::Shown {
                correlation: dispatch.correlation,
                replaced,
            };
            self.eyes.see(self.now, &shown);
        }
    }

    fn is_device(&self, dispatch: &Dispatch) -> bool {
        let listed = self.registry.get(&dispatch.endpoint);
        listed.is_some_and(|listed| listed.spec.channel.is_push())
    }

    /// An answer reaches whoever waits for it, if anybody still does.
    pub(super) fn arrived(&mut self, node: usize, flight: u64, answer: Answer) {
        let Some(Flight {
            who,
            dispatch,
            began_at,
        }) = self.nodes[node].flights.remove(&flight)
        else {
            return;
        };
        let (delivery, attempt) = (dispatch.delivery, dispatch.attempt);
        let latency_ms = u32::try_from(self.now.since(began_at)).unwrap_or(u32::MAX);
        let input = match answer {
            Answer::Outcome(outcome) => Input::Answered {
                delivery,
                attempt,
                outcome: Box::new(Outcome {
                    latency_ms,
                    ..*outcome
                }),
                entropy: self.rng.bits(),
            },
            Answer::Unprocessed => Input::NotSent {
                delivery,
                attempt,
                cause: Cause::Unprocessed,
            },
            Answer::Silence => return,
        };
        self.feed(node, who, input);
    }

    /// Nobody waits any longer.
    pub(super) fn timed_out(&mut self, node: usize, flight: u64) {
        self.arrived(node, flight, Answer::Outcome(Box::new(timed_out())));
    }
}
