"""Ears, eyes, brows, nose, mouth, freckles and lines of drawn faces.

Paired features are defined once, on the right of the image, and painted on both sides together.
"""

from __future__ import annotations

import numpy as np

from faces.drawn.canvas import Canvas, ellipse, linspace, mix, ramp, spline, translate
from faces.drawn.shape import NOSE_LIFT, Head, mirror_pair
from faces.drawn.skin import Light, lip_colour, skin_colour

WHITE = np.full(3, 255.0)
IRIS = np.array(
    [(58, 34, 22), (104, 62, 30), (136, 104, 48), (94, 122, 74), (72, 124, 168), (128, 152, 168)], float
)


def paint_ears(canvas: Canvas, head: Head, light: Light) -> None:
    """Paint both ears, before the head, which covers their inner halves."""
    skin, x = skin_colour(head), head.width + 0.006
    size = 1 + 0.18 * head.person.ear_size
    rim = [
        (x - 0.03, -0.015 * size),
        (x + 0.020 * size, -0.025 * size),
        (x + 0.038 * size, 0.012),
        (x + 0.026 * size, 0.070),
        (x + 0.006, 0.070 + 0.040 * size),
        (x - 0.03, 0.090),
    ]
    fold = [(x - 0.002, -0.010), (x + 0.024 * size, 0.004), (x + 0.018, 0.060)]
    inner = ellipse(x + 0.010, 0.032, 0.016 * size, 0.034 * size)
    rims = head.at_depth(mirror_pair(spline(rim, closed=True)), -0.02)
    canvas.paint(light.shade_skin(skin * (0.98, 0.90, 0.89)), canvas.mask(rims))
    canvas.fill(head.at_depth(mirror_pair(inner), -0.02), skin * (0.72, 0.54, 0.52), 0.45)
    canvas.stroke(head.at_depth(mirror_pair(spline(fold)), -0.02), 0.006, skin * (0.70, 0.50, 0.48), 0.5)


def paint_eyes(canvas: Canvas, head: Head, light: Light) -> None:
    """Paint whites, irises, lids and lashes."""
    person, skin, iris = head.person, skin_colour(head), ramp(IRIS, head.person.eye_colour)
    line = mix(skin * 0.26, np.array([26, 18, 20.0]), 0.75)
    upper, lower = head.eye_lids
    pupils = head.pupils[:, None]
    ball = ellipse(0, 0, 0.0395 * (1 + 0.10 * person.eye_size))
    radius = ball[0, 0]

    openings = head.surface(mirror_pair(np.concatenate([upper, lower[::-1]])))
    eyes = Canvas(canvas.size)
    eyes.fill(openings, mix(np.array([250, 246, 243.0]), skin, 0.06))
    for scale, colour in ((1.0, iris * 0.42), (0.88, iris), (0.62, iris * 1.28 + 14)):
        eyes.fill(head.surface(ball * scale + pupils), colour)
    # The lower half of an iris is brighter: the upper lid shades the upper half.
    eyes.fill(head.surface(ball * (0.60, 0.42) + translate(pupils, 0, 0.34 * radius)), iris * 1.7 + 30, 0.45)
    eyes.fill(head.surface(ball * 0.47 + pupils), np.array([16, 12, 14.0]))
    lid_shadow = np.concatenate([translate(upper, 0, -0.02), translate(upper, 0, 0.012)[::-1]])
    eyes.fill(head.surface(mirror_pair(lid_shadow)), skin * 0.30, 0.42)
    glint = 0.40 * radius * (np.sign(light.side) or 1.0)
    eyes.fill(head.surface(ball * 0.30 + translate(pupils, glint, -0.40 * radius)), WHITE, 0.95)
    eyes.fill(head.surface(ball * 0.15 + translate(pupils, -glint, 0.42 * radius)), WHITE, 0.6)
    canvas.overlay(eyes, canvas.mask(openings))

    corner = translate(ellipse(0, 0, 0.0045, steps=12), *upper[0])
    canvas.fill(head.surface(mirror_pair(corner)), skin * (0.86, 0.55, 0.52), 0.8)
    along = linspace(0, 1, len(upper))
    wing = translate(upper[-1:], 0.006 + 0.012 * person.lashes, -0.004 - 0.010 * person.lashes)
    lid = translate(np.concatenate([upper, wing]), 0, -0.002)
    thickness = 0.005 + (0.006 + 0.008 * person.lashes) * np.sin(np.pi * along * 0.72) ** 0.8
    canvas.stroke(head.surface(mirror_pair(lid)), np.append(thickness, 0.001), line, 0.95)
    rim = mix(skin * (0.55, 0.4, 0.4), line, 0.4 * person.lashes)
    canvas.stroke(head.surface(mirror_pair(lower[5:])), 0.0035, rim, 0.55)
    crease = translate(upper, 0, -0.015 - 0.004 * person.eye_roundness) + np.outer(1 - along, (0, 0.006))
    widths = 0.0045 * np.sin(np.pi * along) + 0.001
    canvas.stroke(head.surface(mirror_pair(crease)), widths, skin * (0.62, 0.44, 0.43), 0.55)
    if person.lashes > 0.3:
        numbers = np.arange(round(5 * person.lashes))
        roots = upper[-2 - 2 * numbers]
        reach = np.stack(
            [0.014 - 0.002 * numbers, np.full(len(numbers), -0.020 * person.lashes - 0.004)], axis=1
        )
        lashes = np.stack([roots, translate(roots + 0.5 * reach, 0.004, 0.004), roots + reach], axis=1)
        canvas.stroke(head.surface(mirror_pair(lashes)), (0.0045, 0.003, 0.001), line, 0.9)


def paint_brows(canvas: Canvas, head: Head, colour: np.ndarray) -> None:
    """Paint the eyebrows in a colour."""
    brow = head.brow
    thickness = 0.0205 * (1 + 0.42 * head.person.brow_thickness)
    along = linspace(0, 1, len(brow))
    widths = thickness * (0.72 + 0.55 * along) * (1 - along**2.2) ** 0.6 + 0.002
    widths[0] *= 0.6
    positions = head.surface(mirror_pair(brow))
    canvas.stroke(positions, widths, colour, 0.62)
    canvas.stroke(translate(positions, 0, 0.001), widths * 0.62, colour * 0.82, 0.55)
    roots = translate(brow[:10:2], 0, thickness * 0.35)
    tips = brow[2:12:2] - np.outer(1 - along[:10:2], (0, thickness * 0.55))
    canvas.stroke(head.surface(mirror_pair(np.stack([roots, tips], axis=1))), 0.0028, colour * 0.7, 0.5)


def paint_nose(canvas: Canvas, head: Head, light: Light) -> None:
    """Paint wings, nostrils and tip; the ridge is part of the shading."""
    wing, tip, base = head.nose["wing"], head.nose["tip"], head.nose["base"]
    dark = skin_colour(head) * (0.50, 0.32, 0.31)
    curve = spline([(-0.007, -0.026), (0, -0.006), (-0.003, 0.010), (-0.016, 0.014)])
    widths = 0.0015 + 0.0055 * np.sin(linspace(0.15, 1, len(curve)) * np.pi) ** 0.8
    canvas.stroke(head.surface(mirror_pair(curve + wing), NOSE_LIFT["wing"]), widths, dark, 0.55)
    nostril = ellipse(wing[0] * 0.50, wing[1] + 0.011, 0.0125, 0.0058)
    nostril[:, 1] -= 0.10 * (nostril[:, 0] - 0.50 * wing[0])
    canvas.fill(head.surface(mirror_pair(nostril), 0.022), dark * 0.62, 0.72)
    under = spline([(-0.014, base[1] - 0.014), (0, base[1] - 0.008), (0.014, base[1] - 0.014)])
    canvas.stroke(head.surface(under, 0.03), 0.004, dark, 0.35)
    glint = ellipse(tip[0] + 0.008 * light.side, tip[1] - 0.010, 0.0075, 0.0060)
    canvas.fill(
        head.surface(glint, NOSE_LIFT["tip"]), np.array([255, 252, 246.0]), 0.20 + 0.12 * light.strength
    )


def paint_mouth(canvas: Canvas, head: Head, light: Light) -> None:
    """Paint lips, and teeth and tongue if the mouth is open."""
    mouth, scene, colour = head.mouth, head.scene, lip_colour(head)
    positions = {name: head.surface(curve) for name, curve in mouth.items()}
    along = linspace(-1, 1, len(mouth["upper"]))
    opened = scene.mouth_open > 0.03
    if opened:
        hole = np.concatenate([positions["upper"], positions["lower"][::-1]])
        dark, low = np.array([74, 22, 28.0]), mouth["lower"][len(along) // 2, 1]
        depth = low - mouth["upper"][len(along) // 2, 1]
        inside = Canvas(canvas.size)
        inside.fill(hole, dark)
        inside.fill(
            head.surface(ellipse(0, low + 0.004, 0.048, 0.42 * depth)), np.array([206, 100, 100.0]), 0.9
        )
        teeth = mouth["upper"] + np.outer(1 - along**4, (0, min(0.020, 0.55 * depth)))
        inside.fill(
            np.concatenate([positions["upper"], head.surface(teeth)[::-1]]), np.array([250, 246, 240.0])
        )
        inside.stroke(translate(positions["upper"], 0, 0.002), 0.007, dark, 0.35)
        canvas.overlay(inside, canvas.mask(hole))
    for top, bottom, tone in (("top", "upper", colour * 0.90), ("lower", "bottom", colour * 1.06)):
        lip = canvas.mask(np.concatenate([positions[top], positions[bottom][::-1]]))
        canvas.paint(light.shade_skin(tone, contrast=0.7), lip, 0.93)
    line = mix(colour * 0.42, skin_colour(head) * 0.25, 0.3)
    if not opened:
        canvas.stroke(positions["upper"], 0.0025 + 0.0045 * (1 - along**2), line, 0.85)
    corners = positions["upper"][[0, -1], None]
    canvas.fill(ellipse(0, 0, 0.005, 0.004) + corners, line, 0.5)
    shine = translate((mouth["lower"] * 0.45 + mouth["bottom"] * 0.55)[8:17], 0.010 * light.side, 0)
    bright = 0.22 + 0.38 * head.person.lip_colour * (0.4 + 0.6 * scene.light_strength)
    canvas.stroke(head.surface(shine), 0.0065 * np.sin(linspace(0, np.pi, 9)) + 0.0005, WHITE, bright)


def paint_lines(canvas: Canvas, head: Head) -> None:
    """Paint freckles, and lines of smile and age."""
    person, scene, skin = head.person, head.scene, skin_colour(head)
    if person.freckles:
        rng = np.random.default_rng([person.number, 1])
        spots, sizes = rng.normal((0, 0.090), (0.120, 0.032), (46, 2)), rng.uniform(0.002, 0.0042, 46)
        spots = np.stack([np.clip(spots[:, 0], -0.22, 0.22), np.maximum(spots[:, 1], 0.05)], axis=1)
        shown = round(46 * person.freckles)
        dots = ellipse(0, 0, 1, steps=10) * sizes[:shown, None, None] + spots[:shown, None]
        canvas.fill(head.surface(dots), skin * (0.74, 0.56, 0.46), 0.55)
    dark, smiling = skin * (0.62, 0.43, 0.41), max(scene.smile, 0)
    fold = 0.6 * smiling * (0.2 + 0.5 * person.age) + 0.35 * person.age**2
    wing, corner = head.nose["wing"], head.mouth["top"][-1]
    curve = spline(
        [
            (wing[0] + 0.012, wing[1] - 0.006),
            (corner[0] + 0.010, (wing[1] + corner[1]) / 2),
            (corner[0] + 0.024, corner[1] + 0.006),
        ]
    )
    widths = 0.001 + 0.005 * np.sin(linspace(0.1, 1, len(curve)) * np.pi)
    canvas.stroke(head.surface(mirror_pair(curve)), widths, dark, min(fold, 0.7))
    crow = 0.55 * max(person.age - 0.35, 0) * (0.5 + smiling)
    if crow > 0.02:
        feet = np.array([[(0.078, 0.4 * y), (0.104, 1.2 * y)] for y in (-0.016, 0.004, 0.022)])
        canvas.stroke(
            head.surface(mirror_pair(feet + head.eye_centre)), (0.0035, 0.001), dark, min(crow, 0.6)
        )
    furrow = 0.5 * max(person.age - 0.3, 0) + 0.25 * max(scene.brow_raise, 0) * person.age
    if furrow > 0.03:
        curve = spline([(-0.10, 0.006), (-0.04, 0), (0.04, 0), (0.10, 0.006)])
        curves = np.stack([translate(curve, 0, y) for y in (-0.165, -0.195)])
        widths = 0.0005 + 0.004 * np.sin(linspace(0, np.pi, len(curve)))
        canvas.stroke(head.surface(curves), widths, dark, min(furrow, 0.5))
