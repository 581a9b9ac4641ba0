//! How this process's memory grows while it serves.

/// From now on by pages of 4 KiB. The allocator asks for huge ones, of which the kernel clears 2 MiB before the thread that
/// touched the first byte goes on. Where a host gives a virtual machine its memory as it is touched, that takes 10 to 30 ms, and
/// all requests of that worker wait. What is there already, such as the first bundle, stays as it is.
pub fn grows_by_small_pages() {
    if let Err(error) = rustix::thread::disable_transparent_huge_pages(true) {
        tracing::debug!(%error, "requests may wait until a huge page of memory is cleared");
    }
}
