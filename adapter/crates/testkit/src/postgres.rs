//! One private PostgreSQL server for the tests of a process, a fresh database for each test.
//!
//! The server listens on a socket in its own folder only. A small shell waits for the end of the
//! test process, however it comes, then stops the server and removes the folder.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Output, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A fresh, empty database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Database {
    /// Its `postgres://` url.
    pub url: String,
}

struct Server {
    bin: PathBuf,
    folder: PathBuf,
    user: Option<(u32, u32)>,
    /// Closed by the system when this process ends, which ends the server.
    _alive: ChildStdin,
}

/// A fresh database on this process's server, which is started when first asked for. Prints one
/// line and gives `None` when PostgreSQL 15 or later is not installed; panics instead when
/// `LUMBAR_TEST_REQUIRE=all`, and when the server does not start.
pub fn postgres() -> Option<Database> {
    static SERVER: OnceLock<Option<Server>> = OnceLock::new();
    static NUMBER: AtomicUsize = AtomicUsize::new(1);
    let started = SERVER.get_or_init(|| {
        let bin = newest()?;
        Some(Server::start(bin).unwrap_or_else(|error| panic!("PostgreSQL did not start: {error}")))
    });
    let Some(server) = started else {
        crate::missing("tests on PostgreSQL", "PostgreSQL 15", "apt-get install postgresql");
        return None;
    };
    let name = format!("test{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    let socket = server.folder.display();
    let created = server.run("createdb", &["-h", &socket.to_string(), "-U", "postgres", &name]);
    created.unwrap_or_else(|error| panic!("no database: {error}"));
    Some(Database { url: format!("postgres://postgres@localhost/{name}?host={socket}") })
}

/// The programs of the newest version that is installed, 15 at least.
fn newest() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?;
    let version = versions
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok())
        .filter(|version| *version >= 15)
        .max()?;
    let bin = Path::new("/usr/lib/postgresql").join(version.to_string()).join("bin");
    bin.join("initdb").is_file().then_some(bin)
}

/// The server refuses to run as root; then it runs as another user: `postgres` or `nobody`.
fn user() -> io::Result<Option<(u32, u32)>> {
    if fs::metadata("/proc/self")?.uid() != 0 {
        return Ok(None);
    }
    let users = fs::read_to_string("/etc/passwd")?;
    let ids = |name: &str| {
        let mut fields =
            users.lines().find(|line| line.split(':').next() == Some(name))?.split(':');
        Some((fields.nth(2)?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    let found = ids("postgres").or_else(|| ids("nobody"));
    found.map(Some).ok_or_else(|| io::Error::other("no user `postgres` or `nobody` to run it as"))
}

impl Server {
    fn start(bin: PathBuf) -> io::Result<Server> {
        let user = user()?;
        let folder = tempfile::Builder::new().prefix("lumbar-pg-").tempdir()?.keep();
        if let Some((uid, gid)) = user {
            chown(&folder, Some(uid), Some(gid))?;
        }
        let data = folder.join("data");
        let mut guard = Command::new("sh");
        guard
            .args(["-c", r#"cat; "$0" -D "$1/data" -m immediate stop; rm -rf "$1""#])
            .args([bin.join("pg_ctl"), folder.clone()])
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        if let Some((uid, gid)) = user {
            guard.uid(uid).gid(gid);
        }
        let alive = guard.spawn()?.stdin.take();
        let alive = alive.ok_or_else(|| io::Error::other("no pipe to the guarding shell"))?;
        let server = Server { bin, folder, user, _alive: alive };
        let data = data.display().to_string();
        let encoding = ["-E", "UTF8", "--locale=C", "--no-sync"];
        server.run(
            "initdb",
            &[&["-D", &data, "-U", "postgres", "-A", "trust"], &encoding[..]].concat(),
        )?;
        // What tests write need not outlive the machine.
        let options = format!(
            "-k {} -c listen_addresses= -c fsync=off -c max_connections=200",
            server.folder.display()
        );
        let log = server.folder.join("log").display().to_string();
        server.run("pg_ctl", &["-D", &data, "-l", &log, "-o", &options, "-w", "start"])?;
        Ok(server)
    }

    /// Runs one of PostgreSQL's programs; its complaints become the error.
    fn run(&self, program: &str, arguments: &[&str]) -> io::Result<()> {
        // A pipe would stay open as long as the server that inherits it.
        let said = tempfile::NamedTempFile::new()?;
        let file = || -> io::Result<File> { said.as_file().try_clone() };
        let mut command = Command::new(self.bin.join(program));
        command.args(arguments).current_dir("/").stdin(Stdio::null());
        command.stdout(file()?).stderr(file()?);
        if let Some((uid, gid)) = self.user {
            command.uid(uid).gid(gid);
        }
        let Output { status, .. } = command.spawn()?.wait_with_output()?;
        if status.success() {
            return Ok(());
        }
        let said = fs::read_to_string(said.path())?;
        Err(io::Error::other(format!("{program}: {status}: {said}")))
    }
}
