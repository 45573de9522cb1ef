//! The real binary as a process of its own.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// How long a test waits for a state before it fails.
pub const DEADLINE: Duration = Duration::from_secs(40);

/// A running `lumbar serve`, killed when dropped.
pub struct Program {
    child: Child,
    lines: BufReader<ChildStdout>,
    /// What was written to stdout so far.
    pub said: Vec<String>,
    /// `http://127.0.0.1:PORT`.
    pub root: String,
    log: PathBuf,
}

/// The binary with an environment that holds nothing of Lumbar's.
pub fn lumbar(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lumbar"));
    command.args(arguments).stdin(Stdio::null());
    for (name, _) in std::env::vars() {
        if name.starts_with("LUMBAR_") || name == "RUST_LOG" {
            command.env_remove(name);
        }
    }
    command
}

/// The URL of a database file.
pub fn database(folder: &TempDir) -> String {
    format!("sqlite:{}", folder.path().join("lumbar.db").display())
}

impl Program {
    /// Starts the service on a free port; returns once it says where it listens.
    pub fn serve(database: &str, more: &[&str], log_filter: &str, log: &Path) -> Program {
        let mut arguments = vec!["serve", "--listen", "127.0.0.1:0", "--database", database];
        arguments.extend(more);
        let mut child = lumbar(&arguments)
            .env("RUST_LOG", log_filter)
            .stdout(Stdio::piped())
            .stderr(File::options().create(true).append(true).open(log).unwrap())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        let log = log.to_owned();
        let mut program = Program { child, lines, said: Vec::new(), root: String::new(), log };
        let line = program.line();
        let root =
            line.strip_prefix("lumbar listening on ").unwrap_or_else(|| panic!("it says {line:?}"));
        assert!(root.starts_with("http://127.0.0.1:") && !root.ends_with(":0"), "{root}");
        program.root = root.to_owned();
        program
    }

    /// The next line of stdout; fails when there is none.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        if self.lines.read_line(&mut line).unwrap() == 0 {
            panic!("it ended; its log:\n{}", self.log());
        }
        let line = line.trim_end().to_owned();
        self.said.push(line.clone());
        line
    }

    /// What was written to stderr so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Ends the process without warning.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks the process to end.
    pub fn terminate(&self) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    }

    /// Waits for the end.
    pub fn end(mut self) -> ExitStatus {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(began.elapsed() < DEADLINE, "it does not end; its log:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A client for the program; reqwest needs its TLS provider even for plain HTTP.
pub fn client() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().timeout(DEADLINE).build().unwrap()
}

/// Waits until `state` gives a value; fails after the deadline with what was waited for.
pub async fn until<T>(what: &str, mut state: impl AsyncFnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(value) = state().await {
            return value;
        }
        assert!(began.elapsed() < DEADLINE, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
