"""Augmentation inside the training step: one key per picture, no host work."""

import jax
import jax.numpy as jnp
from jax.scipy import ndimage
from jaxtyping import Array, Float, Key

Image = Float[Array, 'h w c']


def flip(key: Key[Array, ''], image: Image) -> Image:
  """Mirrors left and right, half of the time."""
  return jnp.where(jax.random.bernoulli(key), image[:, ::-1], image)


def random_crop(
  key: Key[Array, ''], image: Image, size: int
) -> Float[Array, '{size} {size} c']:
  """A square of `size` pixels at native resolution, anywhere in the image."""
  room = jnp.array(image.shape[:2]) - size + 1
  corner = jax.random.randint(key, (2,), 0, room)
  return jax.lax.dynamic_slice(
    image, (corner[0], corner[1], 0), (size, size, image.shape[2])
  )


def crop_and_flip(
  key: Key[Array, ''], image: Image, size: int
) -> Float[Array, '{size} {size} c']:
  """`random_crop`, then `flip`."""
  crop_key, flip_key = jax.random.split(key)
  return flip(flip_key, random_crop(crop_key, image, size))


def random_affine(key: Key[Array, ''], image: Image) -> Image:
  """The paper's augmentation for the PIRM (released script).

  Rotation up to 30 degrees, shifts up to 0.2, zoom up to 0.3, shear up to 0.2,
  each uniform on both sides, then `flip`; the border repeats the nearest pixel.
  """
  keys = jax.random.split(key, 5)
  angle = jnp.deg2rad(30) * jax.random.uniform(keys[0], minval=-1)
  shear = 0.2 * jax.random.uniform(keys[1], minval=-1)
  zoom = 1 + 0.3 * jax.random.uniform(keys[2], (2,), minval=-1)
  size = jnp.array(image.shape[:2], jnp.float32)
  shift = 0.2 * size * jax.random.uniform(keys[3], (2,), minval=-1)
  rotate = jnp.array(
    [[jnp.cos(angle), -jnp.sin(angle)], [jnp.sin(angle), jnp.cos(angle)]]
  )
  matrix = rotate @ jnp.array([[1, -shear], [0, 1]]) @ jnp.diag(zoom)
  center = (size - 1) / 2
  grid = jnp.stack(
    jnp.meshgrid(*(jnp.arange(n) for n in image.shape[:2]), indexing='ij'), -1
  )
  where = (grid - center) @ matrix.T + center + shift
  where = list(jnp.moveaxis(where, -1, 0))
  warped = jax.vmap(
    lambda channel: ndimage.map_coordinates(channel, where, 1, mode='nearest'),
    in_axes=-1,
    out_axes=-1,
  )(image)
  return flip(keys[4], warped)
