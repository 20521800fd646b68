//! Standard error: lines, log lines and bars that do not run into each other.

use std::io::{self, Write};

use indicatif::MultiProgress;
use tracing::Level;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::prelude::*;

/// Standard error. Nothing that goes wrong with it is worth stopping a copy.
#[derive(Debug, Clone)]
pub(crate) struct Screen {
    bars: MultiProgress,
}

impl Screen {
    pub(crate) fn new() -> Self {
        Self {
            bars: MultiProgress::new(),
        }
    }

    /// Writes lines above the bars.
    pub(crate) fn line(&self, text: &str) {
        drop(self.write(format!("{text}\n").as_bytes()));
    }

    /// Where bars are drawn.
    pub(crate) fn bars(&self) -> &MultiProgress {
        &self.bars
    }

    /// Shows the log lines of keyhaul's own crates from now on.
    pub(crate) fn show_log(&self) {
        let lines = tracing_subscriber::fmt::layer().with_writer(self.clone());
        let ours = Targets::new().with_target("keyhaul", Level::INFO);
        // Fails only when it was done before.
        drop(
            tracing_subscriber::registry()
                .with(lines.with_filter(ours))
                .try_init(),
        );
    }

    fn write(&self, bytes: &[u8]) -> io::Result<()> {
        self.bars.suspend(|| io::stderr().lock().write_all(bytes))
    }
}

impl Write for Screen {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Screen::write(self, bytes).map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Screen {
    type Writer = Screen;

    fn make_writer(&'a self) -> Screen {
        self.clone()
    }
}
