//! Whether everything in the ledger's files adds up.
//!
//! Absent here: how that is found out; see `store::embedded::verify`.

use std::path::Path;

use postrider_core::time::Time;

use super::{Check, Finding};
use crate::store::embedded::INDEX_FILE;
use crate::store::embedded::verify::verify;
use crate::vault::Vault;

const NAME: &str = "ledger";
/// Findings that are named; `journal verify` names all of them.
const FINDINGS_NAMED: usize = 3;

/// The check, where there is a ledger and its key.
pub fn check(directory: &Path, key_file: &Path) -> Option<Check> {
    if !directory.join(INDEX_FILE).exists() {
        return None;
    }
    let vault = Vault::open(key_file).ok()?;
    let now = Time(jiff::Timestamp::now().as_millisecond());
    let report = match verify(directory, &vault, now, &mut |_| ()) {
        Ok(report) => report,
        Err(error) => {
            let advice = "restore a backup, or the right master key";
            return Some(Check::new(NAME, Finding::Bad, error.to_string(), advice));
        }
    };
    if report.is_clean() {
        let detail = format!(
            "{} entries of {} deliveries add up",
            report.entries, report.deliveries
        );
        return Some(Check::good(NAME, detail));
    }
    let named = report.findings.iter().take(FINDINGS_NAMED);
    let named: Vec<String> = named.map(ToString::to_string).collect();
    Some(Check::new(
        NAME,
        Finding::Bad,
        format!(
            "{} things do not add up: {}",
            report.found,
            named.join("; ")
        ),
        "stop the engine; restore a backup, or save what can be read with `postrider journal \
         salvage`",
    ))
}
