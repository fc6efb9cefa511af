//! Devices that register, leave and come back, as their owners do it: over the API, from a host of
//! an application's, until they know.
//!
//! Absent here: what arrives at them; see `providers`.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use crate::caller::Caller;
use crate::pass_ms;
use crate::plan::welcome;
use crate::providers::Providers;

/// Longest wait between two times that the same is asked.
const AGAIN_MS_MAX: u64 = 2_500;

/// What becomes of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The app is removed: its address is of no use any more.
    Leaves,
    /// The app is there again, under another address or under the same, and registers; then it is
    /// told something.
    Returns { anew: bool },
    /// The app starts, and registers again.
    Registers,
}

impl Step {
    /// Whether somebody asks for something.
    pub fn asks(self) -> bool {
        self != Step::Leaves
    }

    fn label(self) -> &'static str {
        match self {
            Step::Leaves => "device: left",
            Step::Returns { .. } => "device: came back",
            Step::Registers => "device: registered again",
        }
    }
}

/// One device, and who asks for it.
pub struct Phone {
    pub device: usize,
    pub steps: Vec<(u64, Step)>,
    pub providers: Arc<Providers>,
    pub caller: Caller,
}

impl Phone {
    /// Takes all steps.
    pub async fn run(self) {
        let evidence = &self.caller.evidence;
        let mut now_ms = 0;
        for (at_ms, step) in &self.steps {
            pass_ms(at_ms.saturating_sub(now_ms)).await;
            now_ms = *at_ms;
            evidence.say(format_args!("device {}: {step:?}", self.device));
            evidence.count(step.label());
            match *step {
                Step::Leaves => self.providers.leaves(self.device, evidence.now_ms()),
                Step::Returns { anew } => {
                    let anew = self.providers.returns(self.device, anew);
                    let event = welcome(self.device, &self.register(anew).await);
                    evidence.asked(event.clone());
                    self.caller.errand(&[event]).await;
                }
                Step::Registers => {
                    self.register(false).await;
                    self.caller.open.fetch_sub(1, Relaxed);
                }
            }
        }
    }

    /// Registers the device as it is now, under another address or not; the id of its endpoint.
    async fn register(&self, anew: bool) -> String {
        let (caller, device) = (&self.caller, &self.providers.devices[self.device]);
        let asked_ms = caller.evidence.now_ms();
        let registration = device.registration(asked_ms);
        loop {
            let answered = caller.post("/v1/devices", &registration).await;
            let http_status = answered.as_ref().map_or(0, |(http_status, _)| *http_status);
            let said = answered.map(|(_, said)| said).unwrap_or_default();
            let (name, registered) = (device.name(), &said["registered"]);
            caller
                .evidence
                .say(format_args!("{name} registers: {http_status} {registered}"));
            match http_status {
                200 | 201 => {
                    let endpoint = said["id"].as_str().unwrap_or_default();
                    caller
                        .evidence
                        .registered(endpoint.to_owned(), asked_ms, anew);
                    return endpoint.to_owned();
                }
                0 | 408 | 429 | 500 | 503 | 507 => {}
                _ => {
                    let what = format!("{name} is registered with {http_status}: {said}");
                    caller.evidence.wrong(what);
                }
            }
            pass_ms(caller.chance.between(100, AGAIN_MS_MAX)).await;
        }
    }
}
