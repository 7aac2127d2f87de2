//! A service as a program of its own, which can be stopped and killed.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    net::SocketAddr,
    process::{Child, ChildStdout, Command, Stdio},
};

/// A program that serves; killed at the end of the test, however it ends.
pub(crate) struct Program {
    child: Child,
    output: BufReader<ChildStdout>,
    pub(crate) grpc: SocketAddr,
}

impl Program {
    /// Runs `program` on free ports, with nothing in its environment but these,
    /// until it serves. Its log has no line per call, which nobody would read.
    pub(crate) fn start(program: &str, variables: &[(&str, &str)]) -> Self {
        let mut child = Command::new(program)
            .env_clear()
            .envs([
                ("PORT", "0"),
                ("METRICS_PORT", "0"),
                ("RUST_LOG", "warn,service_kit=info"),
                ("DATABASE_URL", "sqlite::memory:"),
            ])
            .envs(variables.iter().copied())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut program = Self {
            output: BufReader::new(child.stdout.take().unwrap()),
            child,
            grpc: ([127, 0, 0, 1], 0).into(),
        };
        let log = program.read_until(" grpc=");
        let (_, rest) = log.split_once(" grpc=").unwrap();
        program.grpc = rest.split_whitespace().next().unwrap().parse().unwrap();
        program
    }

    /// Reads lines of its log until one has `text`.
    pub(crate) fn read_until(&mut self, text: &str) -> String {
        let mut log = String::new();
        while !log.contains(text) {
            let read = self.output.read_line(&mut log).unwrap();
            assert_ne!(read, 0, "it ended before {text:?}: {log}");
        }
        log
    }

    /// As `kill -9` does: at once, and with no chance to put anything in order.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks it to stop, politely.
    pub(crate) fn terminate(&self) {
        let id = self.child.id().to_string();
        let asked = Command::new("kill").args(["-s", "TERM", &id]).status();
        assert!(asked.unwrap().success());
    }

    /// Waits for its end: the exit code, and what was still logged.
    pub(crate) fn end(mut self) -> (Option<i32>, String) {
        let mut log = String::new();
        self.output.read_to_string(&mut log).unwrap();
        (self.child.wait().unwrap().code(), log)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
