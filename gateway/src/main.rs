//! The cedargate binary.

use std::process::ExitCode;

/// Requests allocate and free small pieces in the hundreds, and much of what one costs is the allocator's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    gateway::cli::main()
}
