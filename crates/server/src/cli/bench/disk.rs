//! How fast the data disk makes a write durable, measured beside every run.
//!
//! Absent here: the store. This is the floor under it.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::Instant;

use crate::cli::failure::Failure;

/// Writes that are measured.
const WRITES: usize = 400;
/// Bytes of each: a page.
const WRITE_BYTES: usize = 4_096;

/// 99th percentile of a page's append and `fdatasync`, in milliseconds.
pub(super) fn fdatasync_p99_ms(directory: &Path) -> Result<f64, Failure> {
    let path = directory.join("fdatasync.probe");
    let cannot = |error| Failure::no("the disk could not be measured").because(error);
    let mut file = File::create(&path).map_err(cannot)?;
    let mut times_ms = Vec::with_capacity(WRITES);
    for _ in 0..WRITES {
        let began = Instant::now();
        file.write_all(&[0x5a; WRITE_BYTES]).map_err(cannot)?;
        file.sync_data().map_err(cannot)?;
        times_ms.push(began.elapsed().as_secs_f64() * 1_000.0);
    }
    drop(file);
    std::fs::remove_file(&path).map_err(cannot)?;
    times_ms.sort_by(f64::total_cmp);
    Ok(times_ms[WRITES * 99 / 100])
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_disk_takes_some_time() {
        let directory = tempfile::tempdir().expect("a directory");
        let p99_ms = super::fdatasync_p99_ms(directory.path()).expect("a figure");
        assert!(p99_ms > 0.0);
        assert_eq!(directory.path().read_dir().expect("readable").count(), 0);
    }
}
