/* png.h - writes an RGB picture as PNG without a library: the pixels are stored, not compressed. */
#ifndef EXAMPLE_PNG_H
#define EXAMPLE_PNG_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static unsigned char *png_u32(unsigned char *at, uint32_t v) {
  at[0] = (unsigned char)(v >> 24), at[1] = (unsigned char)(v >> 16), at[2] = (unsigned char)(v >> 8), at[3] = (unsigned char)v;
  return at + 4;
}

/* A chunk: length, then type and data, then their CRC. at has its data behind 8 bytes of room. */
static unsigned char *png_chunk(unsigned char *at, const char *type, uint32_t length) {
  uint32_t crc = 0xffffffffu, i;
  int bit;
  png_u32(at, length);
  memcpy(at + 4, type, 4);
  for (i = 0; i < length + 4; ++i) {
    crc ^= at[4 + i];
    for (bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
  }
  return png_u32(at + 8 + length, ~crc);
}

/* rgb: [height, width, 3]. Returns 0, or -1 when the file cannot be written (errno says why). Up to 16383 pixels wide. */
static int png_write(const char *path, const unsigned char *rgb, uint32_t width, uint32_t height) {
  const uint32_t row = 1 + 3 * width; /* each row is one stored block, its first byte the filter (none) */
  const size_t zlib = 2 + (size_t)height * (5 + row) + 4;
  unsigned char *file = (unsigned char *)malloc(8 + 25 + 12 + zlib + 12), *at, *z;
  uint32_t a = 1, b = 0, x, y; /* Adler-32 */
  FILE *f;
  int bad;
  if (file == NULL) return -1;
  memcpy(file, "\x89PNG\r\n\x1a\n", 8);
  at = file + 8;
  png_u32(png_u32(at + 8, width), height);
  memcpy(at + 16, "\x08\x02\0\0", 5); /* 8 bits, RGB */
  at = png_chunk(at, "IHDR", 13);
  z = at + 8;
  *z++ = 0x78, *z++ = 0x01;
  for (y = 0; y < height; ++y) {
    *z++ = y + 1 == height;
    *z++ = (unsigned char)row, *z++ = (unsigned char)(row >> 8), *z++ = (unsigned char)~row, *z++ = (unsigned char)(~row >> 8);
    *z = 0;
    memcpy(z + 1, rgb + (size_t)y * 3 * width, 3 * width);
    for (x = 0; x < row; ++x) a = (a + z[x]) % 65521, b = (b + a) % 65521;
    z += row;
  }
  png_u32(z, b << 16 | a);
  at = png_chunk(png_chunk(at, "IDAT", (uint32_t)zlib), "IEND", 0);
  f = fopen(path, "wb");
  bad = f == NULL || fwrite(file, 1, (size_t)(at - file), f) != (size_t)(at - file);
  if (f != NULL) bad = fclose(f) != 0 || bad;
  free(file);
  return bad ? -1 : 0;
}

/* A value of the decoder, about -1..1, as a pixel: x/2 + 0.5, clamped, times 255, half to even. */
static unsigned char png_pixel(float v) {
  float x = v / 2 + 0.5f;
  int n;
  x = (x > 0 ? x < 1 ? x : 1 : 0) * 255;
  n = (int)x;
  return (unsigned char)(n + (x - (float)n > 0.5f || (x - (float)n == 0.5f && n % 2 == 1)));
}

#endif
