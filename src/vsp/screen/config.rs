//! The settings of the screen.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::vnc::address::VncAddress;
use crate::boot::layout::{LARGE_VIDEO_MEMORY, VIDEO_MEMORY};
use crate::vsp::keyboard::layout::ChosenLayout;
use crate::vsp::video::picture::{MAX_HEIGHT, MAX_WIDTH};
use crate::wire::held_as_text;

/// The screen of a machine, and its keyboard and mouse.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct DisplayOptions {
    /// There is a screen. By default, there is one if it is shown to viewers.
    #[serde(skip_serializing_if = "Option::is_none")]
    show: Option<Show>,
    /// The address where VNC viewers can connect.
    #[serde(skip_serializing_if = "Option::is_none")]
    vnc: Option<VncAddress>,
    /// A file with the password of VNC viewers.
    #[serde(skip_serializing_if = "Option::is_none")]
    password_file: Option<PathBuf>,
    /// A file with the certificate that VNC viewers are shown. Their connections are encrypted.
    #[serde(skip_serializing_if = "Option::is_none")]
    tls_cert: Option<PathBuf>,
    /// A file with its key.
    #[serde(skip_serializing_if = "Option::is_none")]
    tls_key: Option<PathBuf>,
    /// What happens to the text of a viewer's clipboard.
    #[serde(skip_serializing_if = "Option::is_none")]
    clipboard: Option<Clipboard>,
    /// Its size.
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<ScreenSize>,
    /// The guest has a keyboard and a mouse.
    #[serde(skip_serializing_if = "Option::is_none")]
    input: Option<bool>,
    /// The layout of the keyboard that the guest has chosen.
    #[serde(skip_serializing_if = "Option::is_none")]
    layout: Option<ChosenLayout>,
}

/// The presence of a screen.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Show {
    /// There is no screen.
    None,
    /// There is one, for screenshots and viewers.
    On,
    /// There is one, and VNC viewers can connect to a Unix socket with this path: short for `vnc=unix:PATH`.
    Unix(PathBuf),
}

impl fmt::Display for Show {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => formatter.write_str("none"),
            Self::On => formatter.write_str("on"),
            Self::Unix(path) => write!(formatter, "unix:{}", path.display()),
        }
    }
}

impl Serialize for Show {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Show {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match (text.as_str(), text.strip_prefix("unix:")) {
            ("none", _) => Ok(Self::None),
            ("on", _) => Ok(Self::On),
            (_, Some(path)) if !path.is_empty() => Ok(Self::Unix(path.into())),
            _ => Err(de::Error::unknown_variant(&text, &["none", "on", "unix:PATH"])),
        }
    }
}

/// The use of the text of a viewer's clipboard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Clipboard {
    /// None.
    Ignore,
    /// It is typed on the keyboard.
    Type,
}

/// The settings of a VNC server.
pub(crate) struct Viewers {
    /// The address where viewers can connect.
    pub(crate) address: VncAddress,
    /// A file with their password.
    pub(crate) password: Option<PathBuf>,
    /// The files of the certificate and its key.
    pub(crate) tls: Option<(PathBuf, PathBuf)>,
}

/// A size in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScreenSize {
    /// Pixels in a line.
    pub width: u16,
    /// Lines.
    pub height: u16,
}

/// The smallest size, in both directions. Linux's console needs more.
const MIN: u32 = 64;

/// The size of the screen before there is a driver, if the screen itself is too large for that.
const EARLY: ScreenSize = ScreenSize { width: 1920, height: 1080 };
const _: () = assert!(4 * (MAX_WIDTH as u64) * (MAX_HEIGHT as u64) <= LARGE_VIDEO_MEMORY);

impl ScreenSize {
    /// Returns `true` if its picture does not fit into the memory of the video function on the PCI bus.
    pub(crate) fn is_large(self) -> bool {
        4 * u32::from(self.width) * u32::from(self.height) > VIDEO_MEMORY.end - VIDEO_MEMORY.start
    }

    /// Returns the size of the screen before there is a driver.
    pub(crate) fn early(self) -> Self {
        if self.is_large() { EARLY } else { self }
    }
}

impl FromStr for ScreenSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('x').and_then(|(width, height)| Some((width.parse().ok()?, height.parse().ok()?)));
        let (width, height): (u16, u16) =
            parts.ok_or_else(|| format!("`{text}` is not a size; write it like 1920x1080"))?;
        let fits = (MIN..=MAX_WIDTH).contains(&width.into()) && (MIN..=MAX_HEIGHT).contains(&height.into());
        if !fits {
            return Err(format!("{text} is not a size of a screen: it has 64x64 to {MAX_WIDTH}x{MAX_HEIGHT} pixels"));
        }
        Ok(Self { width, height })
    }
}

impl fmt::Display for ScreenSize {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}x{}", self.width, self.height)
    }
}

held_as_text!(ScreenSize);

impl DisplayOptions {
    fn is_shown(&self) -> bool {
        self.show.as_ref().map_or(self.vnc.is_some(), |show| *show != Show::None)
    }

    /// Returns `true` if the guest has a keyboard and a mouse.
    pub(crate) fn has_input(&self) -> bool {
        self.input.unwrap_or(self.is_shown())
    }

    /// Returns the layout of the keyboard.
    pub(crate) fn layout(&self) -> ChosenLayout {
        self.layout.unwrap_or_default()
    }

    /// Returns the size of the screen, `None` if there is no screen.
    pub(crate) fn size(&self) -> Option<ScreenSize> {
        self.is_shown().then(|| self.size.unwrap_or(ScreenSize { width: 1024, height: 768 }))
    }

    /// Returns the settings of the VNC server. `None` if there is none.
    ///
    /// # Errors
    /// Returns a description of what is missing.
    pub(crate) fn vnc(&self) -> Result<Option<Viewers>, &'static str> {
        if self.pastes() && !(self.is_shown() && self.has_input()) {
            return Err(
                "clipboard=type needs a screen and a keyboard; give on or vnc=:0, too, and leave out input=off",
            );
        }
        if self.size.is_some() && !self.is_shown() {
            return Err("size is that of a screen; give on or vnc=:0, too");
        }
        if self.layout.is_some() && !self.has_input() {
            return Err("layout is that of a keyboard; give on, vnc=:0 or input=on, too, and leave out input=off");
        }
        let address = match (&self.vnc, &self.show) {
            (Some(_), Some(Show::Unix(_))) => {
                return Err("unix:PATH is an address for viewers; leave out vnc, or write on");
            }
            (None, Some(Show::Unix(path))) => Some(VncAddress::Unix(path.clone())),
            (vnc, _) => vnc.clone(),
        };
        match (address, &self.password_file) {
            (Some(_), _) if !self.is_shown() => Err("vnc needs a screen; leave out none"),
            (None, Some(_)) => Err("password-file is the password of VNC viewers; give vnc=:0, too"),
            (None, None) if self.tls_cert.is_some() || self.tls_key.is_some() => {
                Err("tls-cert and tls-key are for VNC viewers; give vnc=:0, too")
            }
            (address, password) => {
                let tls = match (&self.tls_cert, &self.tls_key) {
                    (None, None) => None,
                    (Some(certificate), Some(key)) => Some((certificate.clone(), key.clone())),
                    _ => return Err("TLS needs a certificate and its key; give both tls-cert=PATH and tls-key=PATH"),
                };
                Ok(address.map(|address| Viewers { address, password: password.clone(), tls }))
            }
        }
    }

    /// Returns `true` if the text of a viewer's clipboard is typed.
    pub(crate) fn pastes(&self) -> bool {
        self.clipboard == Some(Clipboard::Type)
    }

    /// Returns the Unix socket that the VNC server creates.
    pub(crate) fn socket(&self) -> Option<&PathBuf> {
        match (&self.vnc, &self.show) {
            (Some(VncAddress::Unix(path)), _) | (_, Some(Show::Unix(path))) => Some(path),
            _ => None,
        }
    }

    /// Resolves relative paths against `folder`.
    pub(crate) fn rebase(&mut self, folder: &Path) {
        if let Some(VncAddress::Unix(path)) = &mut self.vnc {
            *path = folder.join(&*path);
        }
        if let Some(Show::Unix(path)) = &mut self.show {
            *path = folder.join(&*path);
        }
        for path in [&mut self.password_file, &mut self.tls_cert, &mut self.tls_key].into_iter().flatten() {
            *path = folder.join(&*path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::text;

    fn parse(options: &str) -> Result<DisplayOptions, String> {
        text::parse(options).map_err(|error| error.to_string())
    }

    #[test]
    fn keyboard_and_mouse_come_with_a_screen_or_when_they_are_asked_for() {
        let has_input = |options| parse(options).unwrap().has_input();
        assert!(!DisplayOptions::default().has_input() && !has_input("none") && !has_input("none,input=off"));
        assert!(has_input("none,input=on") && has_input("on") && !has_input("on,input=off"));
        assert_eq!(parse("on,layout=de").unwrap().layout().name(), "de");
        assert!(parse("on,layout=klingon").unwrap_err().contains("known are: us, be,"));
        for without in ["none,layout=de", "layout=de", "on,input=off,layout=de"] {
            assert!(parse(without).unwrap().vnc().err().unwrap().contains("input=on"), "{without}");
        }
        assert!(parse("none,input=on,layout=de").unwrap().vnc().is_ok());
        assert_eq!(parse("non").unwrap_err(), "unknown value `non`; did you mean `none`?");
    }

    #[test]
    fn viewers_need_a_screen_and_have_one() {
        let options = parse("vnc=:1,size=800x600").unwrap();
        assert!(options.has_input() && options.size().is_some());
        assert_eq!(options.vnc().unwrap().unwrap().address.to_string(), "127.0.0.1:5901");
        assert!(parse("none,vnc=:0").unwrap().vnc().err().unwrap().contains("screen"));
        assert!(parse("on,password-file=a").unwrap().vnc().err().unwrap().contains("vnc=:0"));
        assert!(parse("on,tls-key=a").unwrap().vnc().err().unwrap().contains("vnc=:0"));
        assert!(parse("vnc=:0,tls-key=a").unwrap().vnc().err().unwrap().contains("tls-cert=PATH"));
        assert!(!options.pastes() && parse("vnc=:1,clipboard=type").unwrap().pastes());
        for without in ["none,input=on,clipboard=type", "vnc=:0,input=off,clipboard=type"] {
            assert!(parse(without).unwrap().vnc().err().unwrap().contains("keyboard"), "{without}");
        }
        assert!(parse("vnc=:70000").unwrap_err().contains("unix:PATH"));
        for short in ["unix:/a", "vnc=unix:/a", "show=unix:/a,size=800x600"] {
            let options = parse(short).unwrap();
            assert_eq!(options.vnc().unwrap().unwrap().address, VncAddress::Unix("/a".into()));
            assert_eq!(options.socket(), Some(&PathBuf::from("/a")));
            assert!(options.has_input() && options.size().is_some());
        }
        let mut short = parse("unix:a").unwrap();
        short.rebase(Path::new("/folder"));
        assert_eq!(toml::to_string(&short).unwrap(), "show = \"unix:/folder/a\"\n");
        assert!(parse("unix:/a,vnc=:0").unwrap().vnc().err().unwrap().contains("leave out vnc"));
        assert!(parse("unix:").unwrap_err().contains("unix:PATH"));
        let mut options = parse("vnc=unix:a,password-file=b,tls-cert=c,tls-key=/d").unwrap();
        options.rebase(Path::new("/folder"));
        assert_eq!(options, parse("vnc=unix:/folder/a,password-file=/folder/b,tls-cert=/folder/c,tls-key=/d").unwrap());
        let toml: DisplayOptions = toml::from_str("vnc = ':0'\npassword-file = 'b'").unwrap();
        assert_eq!(toml, parse("vnc=:0,password-file=b").unwrap());
    }

    #[test]
    fn a_screen_has_a_size_within_bounds() {
        let size = |options| parse(options).map(|options| options.size().map(|size| size.to_string()));
        assert_eq!(size("on"), Ok(Some("1024x768".into())));
        assert_eq!(size("on,size=3840x2160"), Ok(Some("3840x2160".into())));
        assert!(parse("none,size=800x600").unwrap().vnc().err().unwrap().contains("give on"));
        assert_eq!(size("on,size=7680x4320"), Ok(Some("7680x4320".into())));
        let is_large = |text: &str| text.parse::<ScreenSize>().unwrap().is_large();
        assert!(!is_large("4096x4096") && is_large("4097x4096") && is_large("7680x4320"));
        for wrong in ["800", "800x", "63x600", "7681x64", "64x4321", "70000x1", "-1x600"] {
            let error = parse(&format!("on,size={wrong}")).unwrap_err();
            assert!(error.contains("size"), "{wrong}: {error}");
        }
    }
}
