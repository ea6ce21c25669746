//! The `portolan` command.

use mimalloc::MiMalloc;

/// The system's keeps what a reload has freed: its threads have arenas of their own, which others do not use.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> std::process::ExitCode {
    portolan::cli::main()
}
