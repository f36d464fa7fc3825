//! The simulator's program: see the library.

fn main() -> std::process::ExitCode {
    armilla_sim::main()
}
