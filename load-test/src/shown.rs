//! Where the run's own metrics are served, and who is told so.
//!
//! A load test comes and goes, so Prometheus cannot know its address from a configuration. It
//! writes it into a file that Prometheus watches (`file_sd_configs`), and removes the file at
//! the end: a target that is gone is no target, and no alert.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    path::{Path, PathBuf},
};

use service_kit::MetricsServer;

use crate::{
    Error,
    metrics::Meter,
    settings::{Place, Plan, Settings},
};

/// The run's own metrics, served until this is dropped, if they are to be.
#[derive(Debug)]
pub struct Shown {
    /// Counts what is shown.
    pub meter: Meter,
    server: Option<MetricsServer>,
    _announcement: Option<Announcement>,
}

impl Shown {
    /// Opens the port and says where it is, as far as the settings want it.
    ///
    /// # Errors
    /// A port or a file that cannot be used.
    pub fn begin(settings: &Settings, plan: &Plan) -> Result<Self, Error> {
        let Some(port) = settings.metrics_port else {
            return Ok(Self {
                meter: Meter::silent(),
                server: None,
                _announcement: None,
            });
        };
        let (meter, page) = Meter::new(&plan.phases);
        let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
        let server = MetricsServer::open(address, move || page.render());
        let server = server.map_err(|error| Error::Listen(port, error))?;
        let announcement = settings.announce.as_ref().map(|file| {
            let address = SocketAddr::new(own_address(&plan.place), server.address().port());
            Announcement::write(file, address).map_err(|error| Error::Write(file.clone(), error))
        });
        Ok(Self {
            meter,
            _announcement: announcement.transpose()?,
            server: Some(server),
        })
    }

    /// Where the metrics are served, if they are.
    pub fn address(&self) -> Option<SocketAddr> {
        self.server.as_ref().map(MetricsServer::address)
    }
}

/// Our address, as services at that place see it. Nothing is sent to find out.
fn own_address(place: &Place) -> IpAddr {
    let towards = |target: &str| {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
        socket.connect(target).ok()?;
        Some(socket.local_addr().ok()?.ip())
    };
    let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
    match place {
        Place::Embedded => loopback,
        Place::Target(target) => {
            let uri = target.orders.uri();
            let authority = uri.authority().map(http::uri::Authority::as_str);
            authority.and_then(towards).unwrap_or(loopback)
        }
    }
}

/// A file that says where metrics are; removed when it is dropped.
#[derive(Debug)]
struct Announcement(PathBuf);

impl Announcement {
    fn write(file: &Path, address: SocketAddr) -> io::Result<Self> {
        let targets = serde_json::json!([{ "targets": [address.to_string()] }]);
        // In one step: whoever watches the file never reads half of it.
        let beside = file.with_extension("new");
        fs::write(&beside, targets.to_string())?;
        fs::rename(&beside, file)?;
        Ok(Self(file.to_owned()))
    }
}

impl Drop for Announcement {
    fn drop(&mut self) {
        // Already gone is gone.
        let _ = fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_announcement_is_what_prometheus_reads_and_goes_away_by_itself() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("load-test.json");
        let announcement = Announcement::write(&file, "10.0.0.7:9053".parse().unwrap()).unwrap();
        let text = fs::read_to_string(&file).unwrap();
        assert_eq!(text, r#"[{"targets":["10.0.0.7:9053"]}]"#);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);

        drop(announcement);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn our_address_is_the_one_that_the_target_sees() {
        use clap::Parser as _;
        let place = |arguments: &[&str]| {
            let arguments = [&["load-test"], arguments].concat();
            Settings::try_parse_from(arguments)
                .unwrap()
                .plan()
                .unwrap()
                .place
        };
        let loopback: IpAddr = "127.0.0.1".parse().unwrap();
        assert_eq!(own_address(&place(&[])), loopback);
        assert_eq!(
            own_address(&place(&["--target", "127.0.0.1:50052"])),
            loopback
        );
    }
}
