//! Work that waits for a disk: on a thread that may wait.
//!
//! A runtime that has one thread in all does the work where it is. Only tests have such a runtime;
//! what they read is in memory, and nothing of theirs may depend on which thread is quicker.
//!
//! Absent here: a bound. Whoever calls has one: requests, slots, pages.

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::JoinError;

/// Does `work` and gives what it comes to. Must be called on a runtime.
///
/// # Errors
/// [`JoinError`] if the work panicked, or the runtime ended first.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, JoinError> {
    match Handle::current().runtime_flavor() {
        RuntimeFlavor::CurrentThread => Ok(work()),
        _ => tokio::task::spawn_blocking(work).await,
    }
}

#[cfg(test)]
mod tests {
    use super::blocking;
    use std::thread::current;

    #[tokio::test]
    async fn one_thread_does_it_itself() {
        let here = current().id();
        assert_eq!(blocking(|| current().id()).await.ok(), Some(here));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn several_leave_it_to_one_that_may_wait() {
        let worker = tokio::spawn(async { (current().id(), blocking(|| current().id()).await) });
        let (worker, waited) = worker.await.expect("no panic");
        assert_ne!(waited.expect("no panic"), worker);
        let panic = blocking(|| panic!("as the test wants it")).await;
        assert!(panic.is_err_and(|error| error.is_panic()));
    }
}
