//! What a benchmark runs on: a sink and an engine, each a process of its own, and the endpoints
//! between them.
//!
//! Absent here: load and figures.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::load::{Load, Whom};
use super::process::Usage;
use super::sink::Sink;
use crate::cli::demo::api::Api;
use crate::cli::demo::engine::Engine;
use crate::cli::demo::world::{found, make, word};
use crate::cli::failure::Failure;
use crate::cli::run_directory::RunDirectory;
use crate::fake::Counted;

/// Settings of an engine that is measured: no line for each attempt, and so many slots to one
/// endpoint that a slot's time, most of which is waiting for the commit that opens the attempt,
/// does not bound the rate.
const SETTINGS: &str = r#"
[log]
level = "warn"
attempts = false

[server]
key_requests_per_s_max = 1000000
key_burst_max = 1000000

[policies.bench]
base = "brief"
slots_max = 512
"#;
/// Endpoints that are made at a time.
const MAKERS: usize = 16;

/// A sink, an engine, and a key to it.
pub(super) struct Stage {
    pub(super) sink: Sink,
    pub(super) engine: Engine,
    pub(super) key: String,
    /// A temporary one goes with it.
    directory: RunDirectory,
}

/// A measured stretch of work: what was counted, and what each process used for it.
#[derive(Clone, Debug)]
pub(super) struct Stretch {
    pub(super) counted: Counted,
    pub(super) engine: Usage,
    pub(super) sink: Usage,
    pub(super) client: Usage,
}

impl Stage {
    /// A setting: one HTTP/2 connection to each address, as the raw clients have.
    pub(super) const ONE_CONNECTION: &str = "\n[transport]\nshared_per_host_max = 1\n";

    /// Starts everything, the data under `named` or in a temporary directory.
    pub(super) async fn set(program: &Path, named: Option<&Path>) -> Result<Stage, Failure> {
        Stage::set_with(program, named, |_| String::new()).await
    }

    /// The same with these settings more, the data in a directory of that name beside the first
    /// stage's.
    pub(super) async fn set_for(
        program: &Path,
        named: Option<&Path>,
        name: &str,
        settings: impl Fn(&Sink) -> String,
    ) -> Result<Stage, Failure> {
        let named = named.map(|named| named.join(name));
        Stage::set_with(program, named.as_deref(), settings).await
    }

    async fn set_with(
        program: &Path,
        named: Option<&Path>,
        more: impl Fn(&Sink) -> String,
    ) -> Result<Stage, Failure> {
        let directory = RunDirectory::new("bench", named)?;
        let sink = Sink::start(program).await?;
        let settings = format!("{SETTINGS}{}", more(&sink));
        let mut engine = Engine::prepare(program, &directory.path, None, &settings)?;
        engine.start().await?;
        let key = found(engine.address(), &engine.key()?, "bench").await?;
        Ok(Stage {
            sink,
            engine,
            key,
            directory,
        })
    }

    /// Where the data is.
    pub(super) fn directory(&self) -> &Path {
        &self.directory.path
    }

    /// A load for a recipient with so many endpoints, made now: `/<name>/0` and on.
    pub(super) async fn recipient(&self, name: &str, endpoints: usize) -> Result<Load, Failure> {
        let mut api = Api::new(self.engine.address(), &self.key);
        for number in 0..endpoints {
            let url = self.sink.url(&format!("/{name}/{number}"));
            let body = json!({ "url": url, "recipient": name, "policy": "bench" });
            make(&mut api, "/v1/endpoints", &body).await?;
        }
        Ok(self.load(Whom::Recipient(name.to_owned())))
    }

    /// A load that takes turns over many endpoints, whose URLs `path` names by their numbers.
    pub(super) async fn spread(
        &self,
        endpoints: usize,
        path: impl Fn(usize) -> String,
    ) -> Result<Load, Failure> {
        let mut makers = JoinSet::new();
        for maker in 0..MAKERS {
            let mut api = Api::new(self.engine.address(), &self.key);
            let mine: Vec<(usize, Value)> = (maker..endpoints)
                .step_by(MAKERS)
                .map(|number| (number, json!({ "url": self.sink.url(&path(number)) })))
                .collect();
            makers.spawn(async move {
                let mut ids = Vec::with_capacity(mine.len());
                for (number, body) in mine {
                    let made = make(&mut api, "/v1/endpoints", &body).await?;
                    ids.push((number, word(&made, "id")?));
                }
                Ok::<_, Failure>(ids)
            });
        }
        let mut ids = Vec::with_capacity(endpoints);
        while let Some(made) = makers.join_next().await {
            ids.extend(made.map_err(|e| Failure::no("a maker ended badly").because(e))??);
        }
        ids.sort_unstable();
        Ok(self.spread_over(ids.into_iter().map(|(_, id)| id).collect()))
    }

    /// A load that takes turns over the endpoints with these ids.
    pub(super) fn spread_over(&self, ids: Vec<String>) -> Load {
        self.load(Whom::Spread(Arc::new(ids)))
    }

    fn load(&self, whom: Whom) -> Load {
        Load {
            address: self.engine.address(),
            key: self.key.clone(),
            whom,
            also: String::new(),
        }
    }

    /// What each process has used until now; the count is empty.
    pub(super) fn mark(&self) -> Result<Stretch, Failure> {
        let gone = || Failure::no("the engine is gone");
        Ok(Stretch {
            counted: Counted::default(),
            engine: Usage::of(self.engine.id().ok_or_else(gone)?)?,
            sink: self.sink.usage()?,
            client: Usage::of(std::process::id())?,
        })
    }

    /// The stretch from `mark` until now, with what was counted in it.
    pub(super) fn stretch(&self, mark: &Stretch, counted: Counted) -> Result<Stretch, Failure> {
        let now = self.mark()?;
        Ok(Stretch {
            counted,
            engine: now.engine.since(mark.engine),
            sink: now.sink.since(mark.sink),
            client: now.client.since(mark.client),
        })
    }
}

impl Stretch {
    /// Deliveries that are missing.
    pub(super) fn lost(&self) -> u64 {
        self.counted.expected.saturating_sub(self.counted.distinct)
    }

    /// A figure for each delivery.
    #[expect(clippy::cast_precision_loss, reason = "counts of minutes fit")]
    pub(super) fn each(&self, whole: u64) -> f64 {
        whole as f64 / self.counted.distinct.max(1) as f64
    }
}
