//! Child processes that die with the test process, however that ends.
//!
//! `setpriv --pdeathsig KILL` (util-linux) asks the kernel for it. Where the program is missing,
//! children are still killed on drop, but outlive a test process that is itself killed.
//!
//! The kernel's promise holds for the thread that started the child, not for its process: a server
//! started by a test thread would die with that thread although another thread uses it. So one
//! thread that lives as long as the process starts all of them.

use std::io;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::mpsc::{Sender, channel};
use std::sync::{LazyLock, Mutex};

type Request = (Command, Sender<io::Result<Child>>);

/// A command for `program` whose process is killed when this one ends.
pub(crate) fn bound_command(program: &std::path::Path) -> Command {
    match setpriv() {
        Some(setpriv) => {
            let mut command = Command::new(setpriv);
            command.args(["--pdeathsig", "KILL", "--"]).arg(program);
            command
        }
        None => Command::new(program),
    }
}

/// Starts the command from the thread that lives as long as the process.
pub(crate) fn spawn(command: Command) -> io::Result<Child> {
    static SPAWNER: LazyLock<Mutex<Sender<Request>>> = LazyLock::new(|| {
        let (requests, inbox) = channel::<Request>();
        std::thread::Builder::new()
            .name("testkit-spawner".into())
            .spawn(move || {
                for (mut command, reply) in inbox {
                    // The asker is gone only if its thread was: then nobody wants the child.
                    if let Err(unwanted) = reply.send(command.spawn())
                        && let Ok(mut child) = unwanted.0
                    {
                        drop(child.kill());
                        drop(child.wait());
                    }
                }
            })
            .expect("a thread can be started");
        Mutex::new(requests)
    });
    let (reply, answer) = channel();
    SPAWNER
        .lock()
        .expect("no holder panics")
        .send((command, reply))
        .expect("the spawner never ends");
    answer.recv().expect("the spawner answers every request")
}

fn setpriv() -> Option<&'static PathBuf> {
    static SETPRIV: LazyLock<Option<PathBuf>> = LazyLock::new(|| {
        let path = std::env::var_os("PATH")?;
        std::env::split_paths(&path)
            .map(|folder| folder.join("setpriv"))
            .find(|file| file.is_file())
    });
    SETPRIV.as_ref()
}
