//! Other people's packages, asked over their standard input.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;

use serde_json::Value;
use tempfile::TempPath;

use crate::package_kit;

/// The packages, at the versions this was written against.
const PYPI: [&str; 2] = ["pywebpush==2.5.0", "http_ece==1.2.1"];
const NPM: [&str; 2] = ["web-push@3.6.7", "http_ece@1.2.1"];

/// A process that speaks for a package.
pub struct Other {
    pub name: &'static str,
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    /// It is read whenever a connection is made.
    _pem: Arc<TempPath>,
}

impl Other {
    /// Both of them. What they reach over TLS is trusted by this PEM.
    pub fn both(ca_pem: &str) -> [Other; 2] {
        let npm = package_kit::npm("web-push-npm", &NPM);
        let pypi = package_kit::pypi("web-push-pypi", &PYPI);
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/web_push");
        let pem = tempfile::NamedTempFile::new().expect("a file for the certificate");
        std::fs::write(&pem, ca_pem).expect("it can be written");
        let pem = Arc::new(pem.into_temp_path());
        let mut node = Command::new("node");
        node.arg(scripts.join("other.js"))
            .arg(&npm)
            .env("NODE_EXTRA_CA_CERTS", pem.as_os_str());
        let mut python = Command::new(pypi.join("bin/python"));
        python
            .arg(scripts.join("other.py"))
            .env("REQUESTS_CA_BUNDLE", pem.as_os_str());
        [
            Other::start("npm", node, &pem),
            Other::start("PyPI", python, &pem),
        ]
    }

    fn start(name: &'static str, mut command: Command, pem: &Arc<TempPath>) -> Other {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Other {
            name,
            input: child.stdin.take().expect("a pipe"),
            output: BufReader::new(child.stdout.take().expect("a pipe")),
            child,
            _pem: Arc::clone(pem),
        }
    }

    pub fn ask(&mut self, question: &Value) -> Value {
        writeln!(self.input, "{question}").expect("it listens");
        let mut line = String::new();
        self.output.read_line(&mut line).expect("it answers");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{}: {error}", self.name))
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        // It may have ended by itself; either way nothing of it is left.
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}
