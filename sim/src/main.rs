#[cfg(test)]
mod log_crash;

fn main() {}
