//! Ctrl-C and SIGTERM: the first asks to finish what is in flight, the second to stop at once.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::screen::Screen;

/// What the first signal does to a job that comes to an end.
pub(crate) const STOPPING: &str =
    "stopping: what is in flight is being finished; Ctrl-C again stops at once";
/// What it does to one that follows its source.
pub(crate) const STOPPING_LIVE: &str = "stopping: what is on its way to the target is being applied, and how far it came is saved; Ctrl-C again stops at once";

/// The two signals that mean "stop".
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// From now on they are ours.
    pub(crate) fn install() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// Cancels `stop` at the first signal, and says `stopping`; returns at the second.
    pub(crate) async fn twice(
        &mut self,
        stop: &CancellationToken,
        stopping: &str,
        screen: &Screen,
    ) {
        self.once().await;
        stop.cancel();
        screen.line(stopping);
        self.once().await;
        screen.line("stopped at once");
    }

    async fn once(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
