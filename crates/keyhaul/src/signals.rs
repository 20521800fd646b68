//! Ctrl-C and SIGTERM: the first asks to finish what is in flight, the second to stop at once.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::screen::Screen;

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

    /// Cancels `stop` at the first signal and returns at the second.
    pub(crate) async fn twice(&mut self, stop: &CancellationToken, screen: &Screen) {
        self.once().await;
        stop.cancel();
        screen.line("stopping: what is in flight is being finished; Ctrl-C again stops at once");
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
