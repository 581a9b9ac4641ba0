//! Signals: when to stop, when to read the policies again.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Says `true` once SIGTERM or SIGINT has come. A second one ends the process at once: whoever sends it
/// does not want to wait for the drain, and what is cut is still recorded by what already ran.
///
/// # Errors
/// When the signals cannot be listened for.
pub fn stop_signal() -> io::Result<watch::Receiver<bool>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(async move {
        let name = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        };
        tracing::info!(signal = name, "stopping: no new connections, requests under way may end");
        stop.send_replace(true);
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::warn!("a second signal: ending at once");
        std::process::exit(130);
    });
    Ok(stopped)
}

/// A stream of SIGHUPs.
///
/// # Errors
/// When the signal cannot be listened for.
pub fn reload_signal() -> io::Result<tokio::signal::unix::Signal> {
    signal(SignalKind::hangup())
}
