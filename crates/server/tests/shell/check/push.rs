//! What must hold of notifications to devices beside what holds of all deliveries.
//!
//! Absent here: which attempt an arrival was; that was inferred before, see `tries`.

use std::collections::{BTreeMap, BTreeSet};

use postrider::registry::{EndpointState, Registry};
use postrider_core::cause::Cause;
use postrider_core::id::EndpointId;
use postrider_core::ledger::{Delivery, Fact};
use postrider_core::outcome::OutcomeKind;
use postrider_core::policy::Guarantee;
use postrider_core::time::Time;

use super::Case;
use crate::evidence::Arrival;
use crate::plan::WELCOME;
use crate::providers::Pushed;

/// An endpoint as the registry has it when all is over.
#[derive(Clone, Debug)]
pub struct Home {
    pub id: EndpointId,
    pub uuid: String,
    pub registered_at: Time,
    /// Why it is retired, if it is.
    pub retired: Option<Cause>,
}

/// All endpoints that ever were.
pub fn homes(registry: &Registry) -> Vec<Home> {
    let directory = registry.directory();
    let home = |endpoint: &std::sync::Arc<postrider::registry::Endpoint>| Home {
        id: endpoint.id,
        uuid: endpoint.uuid.to_string(),
        registered_at: endpoint.registered_at(),
        retired: match endpoint.state {
            EndpointState::Retired { cause, .. } => Some(cause),
            _ => None,
        },
    };
    directory.iter().map(home).collect()
}

impl Case<'_> {
    /// What devices have read, with the delivery that it came by.
    fn pushed(&self) -> impl Iterator<Item = (&Delivery, &Arrival, &Pushed)> {
        let arrivals = |(row, arrivals): (_, _)| {
            let arrivals: &Vec<&Arrival> = arrivals;
            arrivals.iter().map(move |arrival| (row, *arrival))
        };
        let all = self.arrived().flat_map(arrivals);
        all.filter_map(|(row, arrival)| Some((row, arrival, arrival.pushed.as_ref()?)))
    }

    /// What a device decrypts or gets is what was submitted, and it is told the delivery's id.
    pub(super) fn content(&mut self) {
        let asked = self.asked.iter();
        let submitted: BTreeMap<_, _> = asked.map(|it| (it.key.as_str(), &it.content)).collect();
        let mut wrong = Vec::new();
        for (row, _, pushed) in self.pushed() {
            let event = self.events.get(&row.event);
            let submitted = event.and_then(|event| submitted.get(&*event.business_id));
            if submitted.is_none_or(|it| **it != pushed.content) || pushed.id != row.correlation.0 {
                let got = &pushed.content;
                wrong.push(format!(
                    "delivery {} brought {got}, and {submitted:?} was submitted",
                    row.id.0
                ));
            }
        }
        for what in wrong {
            self.wrong("content", what);
        }
    }

    /// However often an effectively-once delivery arrived, its device has one place for it, and a
    /// place belongs to one delivery, or to one thread where the caller asked for that.
    pub(super) fn shown_once(&mut self) {
        let mut places: BTreeMap<(usize, &str), BTreeSet<String>> = BTreeMap::new();
        let mut of: BTreeMap<u128, (&Delivery, BTreeSet<(usize, &str)>, u64)> = BTreeMap::new();
        for (row, _, pushed) in self.pushed().filter(|(_, arrival, _)| arrival.acted) {
            let event = self.events.get(&row.event);
            let thread = event.map_or("", |event| &event.collapse_key);
            let owner = match thread {
                "" => format!("delivery {}", row.id.0),
                thread => format!("thread {thread}"),
            };
            let place = (pushed.device, pushed.key.as_str());
            places.entry(place).or_default().insert(owner);
            let known = of.entry(row.correlation.0);
            let known = known.or_insert_with(|| (row, BTreeSet::new(), 0));
            known.1.insert(place);
            known.2 += 1;
        }
        let mut wrong = Vec::new();
        let mut again = 0;
        for (row, places, times) in of.values() {
            let once = row.guarantee == Guarantee::EffectivelyOnce;
            let named = places.iter().all(|(_, key)| !key.is_empty());
            if once && (places.len() != 1 || !named) {
                wrong.push(format!("delivery {} is shown at {places:?}", row.id.0));
            }
            again += u64::from(once && *times > 1);
        }
        for (place, owners) in places.iter().filter(|(_, owners)| owners.len() > 1) {
            wrong.push(format!("{owners:?} are shown at {place:?}"));
        }
        self.repeated = again;
        for what in wrong {
            self.wrong("shown_once", what);
        }
    }

    /// Since when an endpoint is gone, as the last answer that says so has it.
    fn gone_since(&self) -> BTreeMap<EndpointId, Time> {
        let rows = self.deliveries.iter().map(|row| (row.id, row.endpoint));
        let endpoints: BTreeMap<_, _> = rows.collect();
        let mut gone: BTreeMap<EndpointId, Time> = BTreeMap::new();
        for entry in &self.journal {
            if let Fact::Answered { outcome, .. } = &entry.fact
                && outcome.kind == OutcomeKind::Gone
                && let Some(endpoint) = endpoints.get(&entry.delivery)
            {
                let since = gone.entry(*endpoint).or_insert(Time(i64::MIN));
                *since = (*since).max(outcome.gone_at(entry.at));
            }
        }
        gone
    }

    /// The registry has retired what is gone and was not registered again since, and nothing else.
    pub(super) fn retired(&mut self) {
        let gone = self.gone_since();
        let mut wrong = Vec::new();
        for home in &self.homes {
            let since = gone.get(&home.id);
            let ended = since.is_some_and(|since| home.registered_at <= *since);
            let right = match home.retired {
                // Its address went over to another endpoint.
                Some(Cause::EndpointRetired) => true,
                Some(_) => ended,
                None => !ended,
            };
            if !right {
                wrong.push(format!("{home:?} is gone since {since:?}"));
            }
        }
        for what in wrong {
            self.wrong("retired", what);
        }
    }

    /// What is told to a device that came back is not refused because it was gone before.
    pub(super) fn reached_again(&mut self) {
        let mut wrong = Vec::new();
        for row in &self.deliveries {
            let event = self.events.get(&row.event);
            let welcomes = event.is_some_and(|event| event.business_id.starts_with(WELCOME));
            if welcomes && matches!(row.cause, Cause::Gone | Cause::EndpointRetired) {
                wrong.push(format!("delivery {} ended with {:?}", row.id.0, row.cause));
            }
        }
        for what in wrong {
            self.wrong("reached_again", what);
        }
    }
}
