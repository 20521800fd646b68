//! Running a program under test: its output, its exit, its signals, its memory and CPU time.

use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::{proc, spawn};

/// Pause between two looks at the process: the peak of its memory may be missed by what it grows in
/// the last such pause of its life.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(2);

/// A running program; killed when dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Option<Child>,
    started: Instant,
    stdout: Capture,
    stderr: Capture,
    peak_rss_bytes: u64,
}

/// How a program ended.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The exit code; None if a signal ended it.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// All of standard output, as text.
    pub stdout: String,
    /// All of standard error, as text.
    pub stderr: String,
    /// From start to end, to a few milliseconds.
    pub elapsed: Duration,
    /// The highest resident memory, as the kernel counts it (VmHWM), looked at every 2 ms.
    pub peak_rss_bytes: u64,
    /// User and system time, all threads, in steps of 10 ms. Children of the program are not
    /// counted.
    pub cpu_seconds: f64,
}

#[derive(Debug)]
struct Capture {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

/// Runs a program to its end.
///
/// # Panics
/// If it cannot be started, or does not end within `deadline`: then it is killed and its output
/// shown.
pub fn run(command: Command, deadline: Duration) -> Outcome {
    Process::start(command).wait(deadline)
}

impl Process {
    /// Starts a program with its output captured and nothing on its standard input. Program,
    /// arguments, variables and folder of `command` are used; the program is killed when the test
    /// process ends.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn start(command: Command) -> Process {
        let name = format!("{command:?}");
        let mut bound = spawn::bound_command(command.get_program().as_ref());
        bound.args(command.get_args());
        for (key, value) in command.get_envs() {
            match value {
                Some(value) => bound.env(key, value),
                None => bound.env_remove(key),
            };
        }
        if let Some(folder) = command.get_current_dir() {
            bound.current_dir(folder);
        }
        bound
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child =
            spawn::spawn(bound).unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
        let stdout = Capture::start(child.stdout.take().expect("it is piped"));
        let stderr = Capture::start(child.stderr.take().expect("it is piped"));
        let started = Instant::now();
        Process {
            name,
            child: Some(child),
            started,
            stdout,
            stderr,
            peak_rss_bytes: 0,
        }
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("it was not waited for").id()
    }

    /// What it has written to standard output so far.
    pub fn stdout_so_far(&self) -> String {
        self.stdout.text()
    }

    /// What it has written to standard error so far.
    pub fn stderr_so_far(&self) -> String {
        self.stderr.text()
    }

    /// Waits until either output holds this text.
    ///
    /// # Panics
    /// If the program ends without, or `deadline` passes.
    pub fn wait_for_output(&mut self, text: &str, deadline: Duration) {
        let waiting = Instant::now();
        loop {
            // Looked at before the output, so that the last words of a program that ends are seen.
            let ended = !self.sample();
            if ended {
                self.stdout.finish();
                self.stderr.finish();
            }
            if self.stdout.text().contains(text) || self.stderr.text().contains(text) {
                return;
            }
            if ended || waiting.elapsed() > deadline {
                let cause = if ended {
                    "it ended without"
                } else {
                    "too late for"
                };
                panic!("{}: {cause} {text:?} {}", self.name, self.output());
            }
            std::thread::sleep(SAMPLE_INTERVAL);
        }
    }

    /// Sends SIGINT, as Ctrl-C does.
    pub fn interrupt(&self) {
        proc::signal(self.pid(), "INT");
    }

    /// Sends SIGTERM.
    pub fn terminate(&self) {
        proc::signal(self.pid(), "TERM");
    }

    /// Sends SIGKILL.
    pub fn kill(&self) {
        proc::signal(self.pid(), "KILL");
    }

    /// The highest resident memory up to now, as the kernel counts it; None when the program has
    /// ended.
    pub fn rss_peak_bytes_now(&self) -> Option<u64> {
        proc::status_bytes(self.pid(), "VmHWM")
    }

    /// User and system time up to now, in steps of 10 ms; None when the program has ended.
    pub fn cpu_seconds_now(&self) -> Option<f64> {
        let (state, seconds) = proc::state_and_cpu_seconds(self.pid())?;
        (state != 'Z').then_some(seconds)
    }

    /// Waits for the end.
    ///
    /// # Panics
    /// If it does not end within `deadline` from now: then it is killed and its output shown.
    pub fn wait(mut self, deadline: Duration) -> Outcome {
        let waiting = Instant::now();
        while self.sample() {
            if waiting.elapsed() > deadline {
                panic!(
                    "{} did not end within {deadline:?} {}",
                    self.name,
                    self.output()
                );
            }
            std::thread::sleep(SAMPLE_INTERVAL);
        }
        let elapsed = self.started.elapsed();
        // It has ended but was not waited for: its times are final and still there.
        let (_, cpu_seconds) = proc::state_and_cpu_seconds(self.pid()).expect("not waited for yet");
        let mut child = self.child.take().expect("not waited for yet");
        let status = child.wait().expect("our child can be waited for");
        self.stdout.finish();
        self.stderr.finish();
        Outcome {
            code: status.code(),
            signal: status.signal(),
            stdout: self.stdout.text(),
            stderr: self.stderr.text(),
            elapsed,
            peak_rss_bytes: self.peak_rss_bytes,
            cpu_seconds,
        }
    }

    /// Notes the memory peak. False when the process has ended.
    fn sample(&mut self) -> bool {
        let pid = self.pid();
        if let Some(bytes) = proc::status_bytes(pid, "VmHWM") {
            self.peak_rss_bytes = self.peak_rss_bytes.max(bytes);
        }
        proc::state_and_cpu_seconds(pid).is_some_and(|(state, _)| state != 'Z')
    }

    fn output(&self) -> String {
        format!(
            "\n--- stdout\n{}\n--- stderr\n{}\n---",
            self.stdout.text(),
            self.stderr.text()
        )
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            if std::thread::panicking() {
                eprintln!("{} {}", self.name, self.output());
            }
            // Errors mean that it has ended by itself.
            drop(child.kill());
            drop(child.wait());
        }
    }
}

impl Capture {
    fn start(mut source: impl Read + Send + 'static) -> Capture {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let reader = std::thread::spawn({
            let bytes = Arc::clone(&bytes);
            move || {
                let mut buffer = [0; 8192];
                while let Ok(length @ 1..) = source.read(&mut buffer) {
                    bytes
                        .lock()
                        .expect("no holder panics")
                        .extend_from_slice(&buffer[..length]);
                }
            }
        });
        Capture {
            bytes,
            reader: Some(reader),
        }
    }

    /// Waits for the end of the output; the program must have ended.
    fn finish(&mut self) {
        if let Some(reader) = self.reader.take() {
            drop(reader.join());
        }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes.lock().expect("no holder panics")).into_owned()
    }
}
