//! Ctrl-C and SIGTERM: the first one ends the run with the report so far, the second one ends
//! the process.

use std::io;

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
};

/// What a shell expects of a program that was interrupted.
pub const EXIT_CODE: u8 = 130;

/// Whether the run should end.
#[derive(Debug, Clone)]
pub struct Interrupt(watch::Receiver<bool>);

impl Interrupt {
    /// Listens for signals from now on.
    ///
    /// # Errors
    /// When the system does not let it.
    pub fn on_signals() -> io::Result<Self> {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let (asked, receiver) = watch::channel(false);
        tokio::spawn(async move {
            either(&mut interrupt, &mut terminate).await;
            let _ = asked.send(true);
            either(&mut interrupt, &mut terminate).await;
            std::process::exit(i32::from(EXIT_CODE));
        });
        Ok(Self(receiver))
    }

    /// Completes when the run should end, at once when that was asked for before.
    pub async fn asked(&mut self) {
        if self.0.wait_for(|asked| *asked).await.is_err() {
            // Nobody can ask any more.
            std::future::pending().await
        }
    }
}

async fn either(one: &mut Signal, other: &mut Signal) {
    tokio::select! {
        _ = one.recv() => {}
        _ = other.recv() => {}
    }
}
