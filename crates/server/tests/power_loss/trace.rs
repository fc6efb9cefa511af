//! Reading what `strace` wrote down of a process: every call that changes a file below one
//! directory, with its bytes, and the moments at which the process said that work was done.
//!
//! Absent here: calls that no store should make. One that changes a file in a way unknown to this
//! reader is a panic, so that nothing is left out silently.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The calls to be traced, as `strace -e trace=` wants them.
pub const CALLS: &str = "openat,creat,write,pwrite64,writev,pwritev,pwritev2,fdatasync,fsync,\
    ftruncate,truncate,fallocate,rename,renameat,renameat2,unlink,unlinkat,link,linkat,symlink,\
    symlinkat,mkdir,mkdirat,copy_file_range,sendfile,splice";

/// What begins a line by which the traced process says how many records it has acknowledged.
pub const ACK: &str = "ack ";

/// One thing that happened, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// A file was opened that could have been made by it.
    Create {
        path: PathBuf,
        truncate: bool,
    },
    Write {
        path: PathBuf,
        offset: u64,
        data: Vec<u8>,
    },
    Truncate {
        path: PathBuf,
        len: u64,
    },
    Allocate {
        path: PathBuf,
        until: u64,
    },
    /// Everything written to this file, or every name in this directory, is on the device.
    Sync {
        path: PathBuf,
    },
    Rename {
        from: PathBuf,
        to: PathBuf,
    },
    Unlink {
        path: PathBuf,
    },
    /// The process said that this many records are durable.
    Ack {
        records: usize,
    },
    /// A call was made to go wrong.
    Injected {
        path: PathBuf,
    },
}

/// Reads a log made with `strace -f -y -xx`. `dir` is absolute.
pub fn read(log: &str, dir: &Path) -> Vec<Op> {
    let mut reader = Reader {
        dir,
        begun: HashMap::new(),
        positions: HashMap::new(),
        ops: Vec::new(),
    };
    for line in log.lines() {
        reader.line(line);
    }
    reader.ops
}

struct Reader<'a> {
    dir: &'a Path,
    /// Calls of which only the beginning has been seen, by thread.
    begun: HashMap<&'a str, String>,
    /// Where the next plain write to a file goes.
    positions: HashMap<PathBuf, u64>,
    ops: Vec<Op>,
}

impl<'a> Reader<'a> {
    fn line(&mut self, line: &'a str) {
        let Some((thread, rest)) = line.split_once(' ') else {
            return;
        };
        let rest = rest.trim_start();
        if rest.starts_with("+++") || rest.starts_with("---") {
            return;
        }
        if let Some(begun) = rest.strip_suffix(" <unfinished ...>") {
            self.begun.insert(thread, begun.to_owned());
        } else if rest.starts_with("<... ") {
            let begun = self
                .begun
                .remove(thread)
                .expect("a call that resumes has begun");
            let (_, end) = rest.split_once(" resumed>").expect("strace says resumed");
            self.call(&format!("{begun}{end}"));
        } else {
            self.call(rest);
        }
    }

    fn call(&mut self, text: &str) {
        let Some((call, result)) = text.rsplit_once(") = ").or_else(|| text.rsplit_once(" = "))
        else {
            return;
        };
        let (name, args) = call.split_once('(').expect("a call has arguments");
        let number = result.split(['<', ' ']).next().unwrap_or("");
        let Ok(result) = number.parse::<i64>() else {
            return;
        };
        if result >= 0 {
            let args: Vec<&str> = args.trim_end().trim_end_matches(')').split(", ").collect();
            self.done(name, &args, u64::try_from(result).unwrap_or(0));
        } else if text.ends_with("(INJECTED)") {
            let path = fd_path(args.split(", ").next().unwrap_or(""));
            self.ops.push(Op::Injected { path });
        }
    }

    fn done(&mut self, name: &str, args: &[&str], result: u64) {
        match name {
            "openat" => self.open(&place(args[0], args[1]), args[2]),
            "write" if args[0].starts_with("1<") => self.ack(&bytes(args[1])),
            "write" => self.write(&fd_path(args[0]), None, args[1], result),
            "pwrite64" => self.write(&fd_path(args[0]), Some(number(args[3])), args[1], result),
            "ftruncate" => {
                let (path, len) = (fd_path(args[0]), number(args[1]));
                self.push(Op::Truncate { path, len });
            }
            "fallocate" => {
                assert_eq!(number(args[1]), 0, "only plain allocation is known");
                let (path, until) = (fd_path(args[0]), number(args[2]) + number(args[3]));
                self.push(Op::Allocate { path, until });
            }
            "fsync" | "fdatasync" => self.push(Op::Sync {
                path: fd_path(args[0]),
            }),
            "rename" => self.rename(path(args[0]), path(args[1])),
            "renameat" | "renameat2" => {
                self.rename(place(args[0], args[1]), place(args[2], args[3]));
            }
            "unlink" => self.push(Op::Unlink {
                path: path(args[0]),
            }),
            "unlinkat" => self.push(Op::Unlink {
                path: place(args[0], args[1]),
            }),
            _ => {
                let touches = |arg: &&str| {
                    let shown = if arg.contains('<') {
                        fd_path(arg)
                    } else {
                        path(arg)
                    };
                    shown.starts_with(self.dir) && shown != self.dir
                };
                assert!(!args.iter().any(touches), "unknown call {name}({args:?})");
            }
        }
    }

    fn open(&mut self, path: &Path, flags: &str) {
        self.positions.insert(path.to_owned(), 0);
        assert!(
            !flags.contains("O_APPEND") || !path.starts_with(self.dir),
            "appending is unknown"
        );
        if flags.contains("O_CREAT") {
            let truncate = flags.contains("O_TRUNC");
            self.push(Op::Create {
                path: path.to_owned(),
                truncate,
            });
        }
    }

    fn write(&mut self, path: &Path, offset: Option<u64>, data: &str, written: u64) {
        if !path.starts_with(self.dir) {
            return;
        }
        let mut data = bytes(data);
        data.truncate(usize::try_from(written).unwrap_or(0));
        let offset = offset.unwrap_or_else(|| {
            let position = self.positions.entry(path.to_owned()).or_default();
            *position += written;
            *position - written
        });
        self.push(Op::Write {
            path: path.to_owned(),
            offset,
            data,
        });
    }

    fn rename(&mut self, from: PathBuf, to: PathBuf) {
        self.push(Op::Rename { from, to });
    }

    fn ack(&mut self, said: &[u8]) {
        let said = String::from_utf8_lossy(said);
        for line in said.lines().filter_map(|line| line.strip_prefix(ACK)) {
            let records = line.parse().expect("an acknowledgment has a number");
            self.ops.push(Op::Ack { records });
        }
    }

    fn push(&mut self, op: Op) {
        let path = match &op {
            Op::Create { path, .. }
            | Op::Write { path, .. }
            | Op::Truncate { path, .. }
            | Op::Allocate { path, .. }
            | Op::Sync { path }
            | Op::Unlink { path }
            | Op::Rename { to: path, .. } => path,
            Op::Ack { .. } | Op::Injected { .. } => return,
        };
        if path.starts_with(self.dir) {
            self.ops.push(op);
        }
    }
}

/// The path that `-y` shows behind a descriptor: `4<\x2f…>`.
fn fd_path(arg: &str) -> PathBuf {
    let shown = arg
        .split_once('<')
        .map_or("", |(_, rest)| rest.trim_end_matches('>'));
    PathBuf::from(OsStr::from_bytes(&unescape(shown)))
}

fn path(arg: &str) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(&unescape(arg.trim_matches('"'))))
}

/// A path relative to a directory's descriptor.
fn place(dir: &str, name: &str) -> PathBuf {
    fd_path(dir).join(path(name))
}

fn bytes(arg: &str) -> Vec<u8> {
    assert!(
        arg.ends_with('"'),
        "strace cut a string short: give it a larger -s"
    );
    unescape(arg.trim_matches('"'))
}

/// `\x41\x42` is what `-xx` makes of every byte; anything else is kept as it is.
fn unescape(text: &str) -> Vec<u8> {
    let text = text.as_bytes();
    if !text.starts_with(b"\\x") {
        return text.to_vec();
    }
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => byte - b'0',
        _ => byte - b'a' + 10,
    };
    text.chunks_exact(4)
        .map(|byte| digit(byte[2]) << 4 | digit(byte[3]))
        .collect()
}

fn number(arg: &str) -> u64 {
    arg.trim_end_matches(')')
        .parse()
        .expect("the argument is a number")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_calls_that_threads_interleave() {
        let log = concat!(
            "7  openat(AT_FDCWD<\\x2f>, \"\\x2f\\x64\\x2f\\x61\", O_CREAT) = 3<\\x2f>\n",
            "7  pwrite64(3<\\x2f\\x64\\x2f\\x61>, \"\\x41\\x42\", 2, 512 <unfinished ...>\n",
            "8  write(1<pipe:[1]>, \"\\x61\\x63\\x6b\\x20\\x39\\x0a\", 6) = 6\n",
            "7  <... pwrite64 resumed>) = 1\n",
            "7  fdatasync(3<\\x2f\\x64\\x2f\\x61>) = -1 EIO (Input/output error) (INJECTED)\n",
            "7  fdatasync(3<\\x2f\\x65>) = 0\n",
            "7  +++ exited with 0 +++\n",
        );
        let path = PathBuf::from("/d/a");
        let ops = read(log, Path::new("/d"));
        assert_eq!(
            ops,
            [
                Op::Create {
                    path: path.clone(),
                    truncate: false
                },
                Op::Ack { records: 9 },
                Op::Write {
                    path: path.clone(),
                    offset: 512,
                    data: b"A".to_vec()
                },
                Op::Injected { path },
            ]
        );
    }
}
