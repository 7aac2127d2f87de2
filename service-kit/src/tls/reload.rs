//! Reads files again when they have changed.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;
use tracing::{info, warn};

use super::files::{File, Stamp};
use crate::SettingError;

/// How often files are looked at, at most.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Something made of files, and made anew when one of them is another.
///
/// Reading blocks the task that asks, for as long as a few small files take.
pub(super) struct Reloading<T> {
    files: Vec<File>,
    make: Box<dyn Fn() -> Result<T, SettingError> + Send + Sync>,
    made: Mutex<Made<T>>,
}

struct Made<T> {
    current: Arc<T>,
    of: Vec<Stamp>,
    look_at: Instant,
}

impl<T> Reloading<T> {
    /// Makes it for the first time.
    ///
    /// # Errors
    /// Why it cannot be made.
    pub(super) fn new(
        files: Vec<File>,
        make: impl Fn() -> Result<T, SettingError> + Send + Sync + 'static,
    ) -> Result<Self, SettingError> {
        // Before they are read: what changes meanwhile is another.
        let of = files.iter().map(File::stamp).collect();
        let made = Made {
            current: Arc::new(make()?),
            of,
            look_at: Instant::now() + LOOK_EVERY,
        };
        Ok(Self {
            files,
            make: Box::new(make),
            made: Mutex::new(made),
        })
    }

    /// What the files make now, or made when they last could be used.
    pub(super) fn current(&self, now: Instant) -> Arc<T> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if now >= made.look_at {
            made.look_at = now + LOOK_EVERY;
            let of: Vec<Stamp> = self.files.iter().map(File::stamp).collect();
            if of != made.of {
                match (self.make)() {
                    Ok(new) => {
                        info!(files = ?self.files, "certificates read again");
                        made.current = Arc::new(new);
                        made.of = of;
                    }
                    // Looked at again: half of what belongs together may be new.
                    Err(error) => warn!(%error, "the certificates before it stay in use"),
                }
            }
        }
        Arc::clone(&made.current)
    }
}

impl<T> fmt::Debug for Reloading<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Reloading").field(&self.files).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_changed_is_read_once_and_what_cannot_be_used_changes_nothing() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("number");
        fs::write(&path, "1").unwrap();
        let file = File::new("NUMBER", &path);
        let of = path.clone();
        let number = Reloading::new(vec![file.clone()], move || {
            let text = fs::read_to_string(&of).unwrap();
            let number = text.trim().parse::<u32>();
            number.map_err(|_| file.refused("must be a number"))
        })
        .unwrap();
        let after = |look: u32| *number.current(Instant::now() + look * LOOK_EVERY);

        assert_eq!(after(1), 1);
        fs::write(&path, "22").unwrap();
        assert_eq!(after(1), 1, "looked at a moment ago");
        assert_eq!(after(2), 22);
        fs::write(&path, "none").unwrap();
        assert_eq!(after(3), 22);
        fs::write(&path, "333").unwrap();
        assert_eq!(after(4), 333);
        fs::remove_file(&path).unwrap();
        fs::write(&path, "4").unwrap();
        assert_eq!(after(5), 4);
    }
}
