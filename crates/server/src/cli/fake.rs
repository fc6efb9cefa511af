//! `postrider fake`: the webhook sink and the push service as a command.
//!
//! Absent here: both themselves; see [`crate::fake`].

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use super::failure::{Failure, Outcome};
use crate::fake::{Behaviour, Certificate, Fake, Reach, Settings, Tls};

#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// Where to listen for HTTP/1.1 and h2c; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8460")]
    listen: SocketAddr,
    /// Where to listen with TLS, with a certificate made on the spot
    #[arg(long, value_name = "ADDRESS")]
    listen_tls: Option<SocketAddr>,
    /// Where browsers reach the push service: `ws://ADDRESS/` as Firefox's `dom.push.serverURL`
    #[arg(long, value_name = "ADDRESS")]
    listen_browsers: Option<SocketAddr>,
    /// Where to be APNs: HTTP/2 with a certificate made on the spot; `/_/apns` says what it takes
    #[arg(long, value_name = "ADDRESS")]
    listen_apns: Option<SocketAddr>,
    /// What is wrong with the certificate
    #[arg(long, value_enum, default_value = "good", requires = "listen_tls")]
    certificate: Certificate,
    /// Speak TLS 1.2 and nothing newer
    #[arg(long, requires = "listen_tls")]
    tls_1_2: bool,
    /// Ask clients for a certificate under the roots in this file (PEM)
    #[arg(long, value_name = "FILE", requires = "listen_tls")]
    client_ca: Option<PathBuf>,
    /// A behaviour as a JSON object, or a file of them after `@`; may be given again
    #[arg(long, value_name = "JSON|@FILE")]
    behaviour: Vec<String>,
    /// Verify signatures of all paths with this secret; may be given again
    #[arg(long, value_name = "SECRET")]
    secret: Vec<String>,
    /// Requests that are remembered
    #[arg(long, value_name = "COUNT", default_value_t = 100_000)]
    records: usize,
    /// Bytes of each body that are remembered
    #[arg(long, value_name = "BYTES", default_value_t = 1_024)]
    body_keep: usize,
    /// Listen on addresses beyond loopback too: whoever reaches the fake may script it
    #[arg(long)]
    anywhere: bool,
    /// Print where it listens as a JSON object
    #[arg(long)]
    json: bool,
}

/// Runs a fake until the process is told to end.
pub(super) fn run(args: &Args) -> Outcome {
    let behaviours = behaviours(args)?;
    let settings = settings(args)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::no("the network could not be set up").because(error))?;
    // As many connections as the system lets one process have; fewer than hoped is no error.
    let _raised = rlimit::increase_nofile_limit(u64::MAX);
    runtime.block_on(async {
        let fake = Fake::start(settings).await.map_err(|error| {
            let failure = Failure::usage("the fake could not start").because(error);
            failure.hint("`--listen 127.0.0.1:0` takes a free port")
        })?;
        for behaviour in behaviours {
            let path = behaviour.path.clone();
            fake.set(behaviour).map_err(|error| {
                Failure::usage(format!("the behaviour of {path} cannot be")).because(error)
            })?;
        }
        announce(&fake, args.json);
        ended().await
    })
}

fn settings(args: &Args) -> Result<Settings, Failure> {
    let tls = match args.listen_tls {
        None => None,
        Some(at) => Some((
            at,
            Tls {
                certificate: args.certificate,
                only_1_2: args.tls_1_2,
                client_ca_pem: args.client_ca.as_ref().map(text).transpose()?,
            },
        )),
    };
    Ok(Settings {
        listen: args.listen,
        tls,
        browsers: args.listen_browsers,
        apns: args.listen_apns,
        records_max: args.records,
        body_keep_bytes: args.body_keep,
        beyond_loopback: if args.anywhere {
            Reach::Anywhere
        } else {
            Reach::Loopback
        },
    })
}

fn behaviours(args: &Args) -> Result<Vec<Behaviour>, Failure> {
    let mut all = Vec::new();
    if !args.secret.is_empty() {
        let mut behaviour = Behaviour::of("/*");
        behaviour.secrets.clone_from(&args.secret);
        all.push(behaviour);
    }
    for source in &args.behaviour {
        let json = match source.strip_prefix('@') {
            Some(file) => text(&PathBuf::from(file))?,
            None => source.clone(),
        };
        for behaviour in serde_json::Deserializer::from_str(&json).into_iter() {
            let behaviour = behaviour.map_err(|error| {
                Failure::usage(format!("{source} does not read as a behaviour"))
                    .because(error)
                    .hint(r#"{"path":"/a","rules":[{"do":{"answer":{"status":503}}}]}"#)
            })?;
            all.push(behaviour);
        }
    }
    Ok(all)
}

fn text(file: &PathBuf) -> Result<String, Failure> {
    std::fs::read_to_string(file).map_err(|error| {
        Failure::usage(format!("{} cannot be read", file.display())).because(error)
    })
}

fn announce(fake: &Fake, as_json: bool) {
    let line = if as_json {
        let tls = fake.tls();
        json!({
            "url": fake.url(""),
            "tls_url": tls.map(|(address, _)| format!("https://{address}")),
            "ca_pem": tls.map(|(_, pem)| pem),
            "browsers_url": fake.browsers_url(),
            "apns_url": fake.apns().map(|apns| apns.origin()),
            "apns_ca_pem": fake.apns().map(|apns| apns.pem()),
        })
        .to_string()
    } else {
        let tls = fake.tls().map_or_else(String::new, |(address, pem)| {
            format!("\nhttps://{address}, trusted by\n{pem}")
        });
        let browsers = fake
            .browsers_url()
            .map_or_else(String::new, |url| format!("\n{url} for browsers"));
        let apns = fake.apns().map_or_else(String::new, |apns| {
            format!("\n{} is APNs, trusted by\n{}", apns.origin(), apns.pem())
        });
        format!(
            "{}{tls}{browsers}{apns}\n{} says what can be asked of it",
            fake.url(""),
            fake.url("/_/")
        )
    };
    // Nobody may be reading; the fake runs all the same.
    let _ignored = writeln!(std::io::stdout().lock(), "{line}");
}

async fn ended() -> Outcome {
    let listen =
        |kind| signal(kind).map_err(|error| Failure::no("signals cannot be heard").because(error));
    let (mut interrupt, mut terminate) = (
        listen(SignalKind::interrupt())?,
        listen(SignalKind::terminate())?,
    );
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}
