//! The program as a whole: start to first answer, the first time and later, and idle memory: with
//! the demonstration loaded, and with UK Core from the folder of reference data (`LUMBAR_SHARED`).

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Starts that are measured.
const STARTS: usize = 5;

pub fn measure(folder: &Path) {
    println!("\n== program ==");
    let database = format!("sqlite:{}", folder.join("demo.db").display());
    // The first start loads the demonstration; what is measured is every later one.
    let mut first = Program::start(&database, &["--demo"]);
    first.wait_for("Look at");
    drop(first);
    let later: Vec<Start> = (0..STARTS).map(|_| Start::measure(&database, &[])).collect();
    tell("demonstration loaded", &later);
    let Some(shared) = lumbar_testkit::shared() else { return };
    let profiles = shared.join("fhir/ukcore").display().to_string();
    let (mut first, mut later) = (Vec::new(), Vec::new());
    for number in 0..STARTS {
        let database = format!("sqlite:{}", folder.join(format!("{number}.db")).display());
        first.push(Start::measure(&database, &["--profiles", &profiles]));
        later.push(Start::measure(&database, &["--profiles", &profiles]));
    }
    tell("UK Core, new database", &first);
    tell("UK Core, later", &later);
}

/// What a start took.
struct Start {
    time: Duration,
    processor: Duration,
    /// KiB of the program's own and of files.
    memory: [u64; 2],
}

impl Start {
    fn measure(database: &str, options: &[&str]) -> Start {
        let begin = Instant::now();
        let mut program = Program::start(database, options);
        let address = program.wait_for("lumbar listening on http://");
        get(&address, "/fhir/ServiceRequest?_count=1");
        let time = begin.elapsed();
        let processor = program.processor();
        std::thread::sleep(Duration::from_millis(500));
        let memory = program.resident_kib();
        Start { time, processor, memory }
    }
}

/// The medians.
fn tell(name: &str, starts: &[Start]) {
    let median = |of: &dyn Fn(&Start) -> f64| {
        let mut all: Vec<f64> = starts.iter().map(of).collect();
        all.sort_by(f64::total_cmp);
        all[all.len() / 2]
    };
    println!(
        "{name:24} start to first answer {:4.0} ms, {:4.0} ms of the processor; idle memory {:3.0} MB of its own, {:3.0} MB of files",
        median(&|start| start.time.as_secs_f64() * 1000.0),
        median(&|start| start.processor.as_secs_f64() * 1000.0),
        median(&|start| start.memory[0] as f64 / 1024.0),
        median(&|start| start.memory[1] as f64 / 1024.0),
    );
}

pub struct Program {
    child: Child,
    out: BufReader<std::process::ChildStdout>,
}

impl Program {
    pub fn start(database: &str, options: &[&str]) -> Program {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lumbar"));
        command.args(["serve", "--listen", "127.0.0.1:0", "--database", database]);
        command.args(options);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        Program { child, out }
    }

    /// Reads lines until one begins so, and returns the rest of it.
    pub fn wait_for(&mut self, beginning: &str) -> String {
        let mut line = String::new();
        loop {
            line.clear();
            assert!(self.out.read_line(&mut line).unwrap() > 0, "the program ended");
            if let Some(rest) = line.trim().strip_prefix(beginning) {
                return rest.to_owned();
            }
        }
    }

    /// Memory in use: the program's own, and files that it has mapped, the database among them.
    pub fn resident_kib(&self) -> [u64; 2] {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        ["RssAnon:", "RssFile:"].map(|name| {
            let line = status.lines().find(|line| line.starts_with(name)).unwrap();
            line.split_whitespace().nth(1).unwrap().parse().unwrap()
        })
    }

    /// The processor's time that it took so far, which the system counts in hundredths of a second.
    pub fn processor(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let (_, fields) = stat.rsplit_once(')').unwrap();
        let ticks = fields.split_whitespace().skip(11).take(2);
        ticks.map(|ticks| Duration::from_millis(10) * ticks.parse::<u32>().unwrap()).sum()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn get(address: &str, path: &str) {
    let mut stream = TcpStream::connect(address).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}
