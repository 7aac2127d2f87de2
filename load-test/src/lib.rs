//! Load test (being put together).
pub mod claims;
mod exposition;
pub mod figures;
pub mod generator;
#[cfg(test)]
mod made_up;
pub mod orders;
pub mod phases;
pub mod recording;
pub mod report;
pub mod scrape;
mod words;
