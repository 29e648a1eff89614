//! `viridian click`.

use serde_json::json;

use super::{Done, Place, advised};

/// The options of `viridian click`.
#[derive(clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    place: Place,

    /// The column of the pixel, from 0 on
    x: u32,

    /// Its line
    y: u32,

    /// The button
    #[arg(long, default_value = "left")]
    button: Button,

    /// Drag: release the button at this pixel
    #[arg(long, value_name = "X,Y", value_parser = pixel)]
    to: Option<(u32, u32)>,

    /// Print JSON: for one NAME, or a list
    #[arg(long)]
    json: bool,
}

/// A button of the mouse, or none, to move only. The values are those of the device's commands.
#[derive(Clone, Copy, clap::ValueEnum)]
enum Button {
    None = 0,
    Left = 1,
    Right = 2,
    Middle = 4,
    Back = 8,
    Forward = 16,
}

fn pixel(text: &str) -> Result<(u32, u32), String> {
    let parts = text.split_once(',').and_then(|(x, y)| Some((x.parse().ok()?, y.parse().ok()?)));
    parts.ok_or_else(|| format!("`{text}` is not a pixel; write it like 400,300"))
}

pub fn run(Arguments { place, x, y, button, to, json }: Arguments) -> Done {
    let machines = place.machines()?;
    let (command, arguments) = match to {
        None => ("click", json!({ "x": x, "y": y, "buttons": button as u8 })),
        Some(to) => ("drag", json!({ "from": [x, y], "to": to, "buttons": button as u8 })),
    };
    let path = format!("/devices/mouse/{command}");
    let (code, done) = machines.each(|machine| {
        machine
            .post(&path, Some(&arguments))
            .map(drop)
            .map_err(advised("the machine has no mouse; run it with --display on"))
    });
    if json {
        machines.print_json(done.into_iter().map(|(name, ())| json!({ "name": name })).collect())?;
    }
    Ok(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pixel_is_two_numbers() {
        assert_eq!((pixel("4,30"), pixel("0,0")), (Ok((4, 30)), Ok((0, 0))));
        for wrong in ["", "4", "4,", "-1,2", "1,2,3", "a,b"] {
            assert!(pixel(wrong).unwrap_err().contains("400,300"), "{wrong}");
        }
    }
}
