//! The `pollux` program.
#![forbid(unsafe_code)]

use std::process::ExitCode;

/// Keeps a parked poll a third smaller than the system's allocator does.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    pollux_node::program::run(std::env::args_os())
}
