//! A program that a test starts beside Burble. It ends with the test process, however that ends.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

use super::signal;

/// Starts the program, where it is installed, and says its pid; once the pipe to this shell closes, kills it and, unless
/// told to keep it, removes the folder, if one is named. At last it kills what the program has started, and itself: they
/// are a group of processes of their own, which the signals of a terminal do not reach.
const SCRIPT: &str = r#"log=$1 folder=$2; shift 2
command -v "$1" >/dev/null || exit
"$@" >>"$log" 2>&1 & pid=$!; echo $pid; read word
kill -9 $pid 2>/dev/null; wait $pid 2>/dev/null; [ "$word" = keep ] || [ -z "$folder" ] || rm -rf "$folder"
kill -9 0"#;

/// A running program. It is killed when this is dropped.
pub(crate) struct Keeper {
    shell: Child,
    pipe: Option<ChildStdin>,
    pid: u32,
}

impl Keeper {
    /// Starts `program` with what it prints added to `log`; the folder, where there is one, goes with it.
    pub(crate) fn start(program: &[impl AsRef<OsStr>], log: &Path, remove: Option<&Path>) -> Self {
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", SCRIPT, "keeper"]).arg(log).arg(remove.unwrap_or(Path::new(""))).args(program);
        let shell = shell.stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0).spawn();
        let mut shell = shell.expect("every machine has a shell");
        let mut line = String::new();
        let out = shell.stdout.take().expect("it is piped");
        BufReader::new(out).read_line(&mut line).expect("the shell says the pid");
        let Ok(pid) = line.trim().parse() else {
            panic!("{} is not installed; scripts/need.sh installs it", program[0].as_ref().display())
        };
        let pipe = shell.stdin.take();
        Self { shell, pipe, pid }
    }

    /// Kills the program, and leaves its folder for another start.
    pub(crate) fn kill(mut self) {
        self.signal("KILL");
        let _ = self.pipe.as_mut().map(|pipe| pipe.write_all(b"keep\n"));
    }

    pub(crate) fn signal(&self, name: &str) {
        signal(self.pid, name);
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.pipe = None;
        let _ = self.shell.wait();
    }
}
