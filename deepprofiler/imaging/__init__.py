"""Images as arrays: read, correct, segment, crop. Knows nothing of projects or networks.

::

    image = read_site([ImageFile(path) for path in paths])
    x, y, area = centers(otsu(image[:, :, 0]))
    crops = cut(image, np.column_stack([x, y]), size=128)
"""
