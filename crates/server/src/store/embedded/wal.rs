//! Telling a write-ahead log that was cut short by a power loss from one that was damaged.
//!
//! SQLite reads a log up to the first frame that does not fit its checksum and takes the rest for a
//! commit that never was. That is right where the power went, and silently forgets what had been
//! acknowledged where the frame was damaged later. The two can be told apart: every commit is
//! synced before the next one is written, so after a loss of power nothing of this log can stand
//! behind the end of the commit that does not fit.
//!
//! Absent here: the last commit of a log. Whether it was damaged or never completed, nobody can
//! tell, except where it had been followed by another.

use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind, Read};
use std::path::Path;

/// Bytes of the log's header and of a frame's (SQLite's file format, section 4.1).
const HEADER_BYTES: usize = 32;
const FRAME_BYTES: usize = 24;
/// The header's first word where checksums read little-endian words; one more is big-endian.
const MAGIC: u32 = 0x377f_0682;
/// Bytes of a page at the most, so that a damaged header asks for no absurd buffer.
const PAGE_BYTES_MAX: usize = 65_536;

/// Looks through the log at `path`. Returns what does not add up, or `None` if everything does,
/// there is no log, or only its last commit is cut short.
///
/// # Errors
/// The file's own.
pub fn damage(path: &Path) -> io::Result<Option<String>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let mut file = BufReader::with_capacity(1 << 18, file);
    let mut header = [0; HEADER_BYTES];
    if !fill(&mut file, &mut header)? {
        return Ok(None);
    }
    let Some(mut log) = Log::begin(&header) else {
        // The header was on the disk before anything was put behind it.
        return Ok(any_written(&mut file)?.then(|| "its header does not match its checksum".into()));
    };
    let mut bad_frame = None;
    let mut ended = false;
    let mut number = 0_u64;
    let (mut frame, mut page) = ([0; FRAME_BYTES], vec![0; log.page_bytes]);
    while fill(&mut file, &mut frame)? && fill(&mut file, &mut page)? {
        number += 1;
        let ours = frame[8..16] == log.salts;
        if bad_frame.is_none() && !(ours && log.fits(&frame, &page)) {
            bad_frame = Some(number);
        }
        if let Some(bad) = bad_frame
            && ours
        {
            if ended {
                return Ok(Some(format!("frame {bad} is damaged: commits follow it")));
            }
            ended = word(&frame, 4, true) != 0;
        }
    }
    Ok(None)
}

/// What the frames are held against.
struct Log {
    salts: [u8; 8],
    page_bytes: usize,
    big_endian: bool,
    sums: [u32; 2],
}

impl Log {
    /// `None` if the header is none.
    fn begin(header: &[u8; HEADER_BYTES]) -> Option<Log> {
        let magic = word(header, 0, true);
        let page_bytes = usize::try_from(word(header, 8, true)).ok()?;
        let big_endian = magic == MAGIC + 1;
        if magic & !1 != MAGIC || !page_bytes.is_power_of_two() || page_bytes > PAGE_BYTES_MAX {
            return None;
        }
        let sums = checksum([0, 0], &header[..24], big_endian);
        if sums != [word(header, 24, true), word(header, 28, true)] {
            return None;
        }
        let mut salts = [0; 8];
        salts.copy_from_slice(&header[16..24]);
        Some(Log {
            salts,
            page_bytes,
            big_endian,
            sums,
        })
    }

    /// Takes the next frame in, if it belongs here.
    fn fits(&mut self, frame: &[u8; FRAME_BYTES], page: &[u8]) -> bool {
        let sums = checksum(self.sums, &frame[..8], self.big_endian);
        let sums = checksum(sums, page, self.big_endian);
        let fits = sums == [word(frame, 16, true), word(frame, 20, true)];
        if fits {
            self.sums = sums;
        }
        fits
    }
}

/// SQLite's running checksum over pairs of words.
fn checksum([mut a, mut b]: [u32; 2], bytes: &[u8], big_endian: bool) -> [u32; 2] {
    for pair in bytes.as_chunks::<8>().0 {
        a = a.wrapping_add(word(pair, 0, big_endian)).wrapping_add(b);
        b = b.wrapping_add(word(pair, 4, big_endian)).wrapping_add(a);
    }
    [a, b]
}

fn word(bytes: &[u8], at: usize, big_endian: bool) -> u32 {
    let word = [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
    if big_endian {
        u32::from_be_bytes(word)
    } else {
        u32::from_le_bytes(word)
    }
}

/// Whether anything but zeroes is left.
fn any_written(file: &mut impl BufRead) -> io::Result<bool> {
    loop {
        let there = file.fill_buf()?;
        if there.is_empty() || there.iter().any(|byte| *byte != 0) {
            return Ok(!there.is_empty());
        }
        let len = there.len();
        file.consume(len);
    }
}

/// Reads until `bytes` is full; `false` at the end of the file.
fn fill(file: &mut impl Read, bytes: &mut [u8]) -> io::Result<bool> {
    match file.read_exact(bytes) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rusqlite::Connection;

    /// A log of eight commits of one to three pages, and the frame that ends each.
    fn log(dir: &Path) -> (Vec<u8>, Vec<usize>) {
        let db = Connection::open(dir.join("a.db")).unwrap();
        db.execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
             CREATE TABLE t (id INTEGER PRIMARY KEY, body BLOB);",
        )
        .unwrap();
        for n in 1..8 {
            let sql = "INSERT INTO t (body) VALUES (randomblob(?1))";
            db.execute(sql, [n * 1_200 % 5_000]).unwrap();
        }
        let bytes = std::fs::read(dir.join("a.db-wal")).unwrap();
        let frames = (bytes.len() - HEADER_BYTES) / (FRAME_BYTES + 4_096);
        let start = |frame: usize| HEADER_BYTES + frame * (FRAME_BYTES + 4_096);
        let ends = (0..frames)
            .filter(|f| word(&bytes, start(*f) + 4, true) != 0)
            .collect();
        (bytes, ends)
    }

    fn damage_of(dir: &Path, bytes: &[u8]) -> Option<String> {
        let path = dir.join("copy-wal");
        std::fs::write(&path, bytes).unwrap();
        damage(&path).unwrap()
    }

    #[test]
    fn a_log_that_was_cut_short_is_sound() {
        let dir = tempfile::tempdir().unwrap();
        let (bytes, _) = log(dir.path());
        assert_eq!(damage(&dir.path().join("no-such-log")).unwrap(), None);
        for len in (0..bytes.len()).step_by(517) {
            assert_eq!(damage_of(dir.path(), &bytes[..len]), None, "cut at {len}");
            let mut torn = bytes.clone();
            torn[len..].fill(0);
            assert_eq!(damage_of(dir.path(), &torn), None, "zeroes from {len}");
        }
    }

    #[test]
    fn a_flip_before_the_last_commit_is_damage() {
        let dir = tempfile::tempdir().unwrap();
        let (bytes, ends) = log(dir.path());
        assert!(ends.len() >= 8);
        let last_commit = ends[ends.len() - 2] + 1;
        let frame_bytes = FRAME_BYTES + 4_096;
        for at in (0..bytes.len()).step_by(211).chain(0..32) {
            let mut flipped = bytes.clone();
            flipped[at] ^= 0x40;
            let found = damage_of(dir.path(), &flipped);
            let frame = at.checked_sub(HEADER_BYTES).map(|at| at / frame_bytes);
            let expected = frame.is_none_or(|frame| frame < last_commit);
            assert_eq!(found.is_some(), expected, "a flip at {at}, frame {frame:?}");
        }
        let mut without_its_first_page = bytes.clone();
        without_its_first_page[..4_096].fill(0);
        assert!(damage_of(dir.path(), &without_its_first_page).is_some());
    }
}
