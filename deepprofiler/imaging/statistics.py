"""Measure a plate's illumination and intensity percentiles (Singh et al. 2014)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from deepprofiler.errors import DataError
from deepprofiler.imaging.correction import correction_function, resize
from deepprofiler.imaging.histogram import Histogram
from deepprofiler.imaging.illumination import Illumination


class IlluminationStatistics:
    """Sums and histograms over the sites of one plate; parts of a plate can be merged.

    Parameters
    ----------
    channels : sequence of str
    down_scale : int
        Factor by which the mean image is made smaller.
    """

    def __init__(self, channels: Sequence[str], down_scale: int):
        self.channels = tuple(channels)
        self.down_scale = down_scale
        self.count = 0
        self._sum = np.zeros((0, 0, len(self.channels)))
        self._histograms = [Histogram() for _ in self.channels]
        self._first = ""

    def add(self, image: np.ndarray, name: str = "") -> None:
        """Add one site.

        Parameters
        ----------
        image : numpy.ndarray
            (H, W, C), integers or finite floats.
        name : str
            What to call the site in an error, such as a file's path.

        Raises
        ------
        DataError
            The size differs from that of the sites before, or the image has another number of
            channels.
        """
        if image.ndim != 3 or image.shape[2] != len(self.channels):
            raise DataError(
                f"{name}: shape {image.shape} where {len(self.channels)} channels are expected"
            )
        self._require_shape(image.shape, name)
        self._sum += image
        for channel, histogram in enumerate(self._histograms):
            histogram.add(image[:, :, channel])
        self.count += 1

    def merge(self, other: IlluminationStatistics) -> None:
        """Add the sites of another part of the same plate.

        Raises
        ------
        DataError
            The two parts hold images of different sizes.
        """
        if (self.channels, self.down_scale) != (other.channels, other.down_scale):
            raise ValueError("statistics of different channels or down_scale cannot be merged")
        if not other.count:
            return
        self._require_shape(other._sum.shape, other._first)
        self._sum += other._sum
        self.count += other.count
        for mine, others in zip(self._histograms, other._histograms, strict=True):
            mine.merge(others)

    def finish(
        self, median_size: int, percentiles: tuple[float, float] = (0.01, 99.99)
    ) -> Illumination:
        """Compute the correction functions and the percentiles.

        Parameters
        ----------
        median_size : int
            Diameter of the median's disk, in pixels of the down-scaled mean.
        percentiles : tuple of float
            Lower and upper rank in percent.

        Returns
        -------
        Illumination

        Raises
        ------
        DataError
            No site was added.
        """
        if not self.count:
            raise DataError("no site of the plate could be read: it has no illumination function")
        height, width, _ = self._sum.shape
        small = (round(height / self.down_scale), round(width / self.down_scale))
        # Making smaller is linear: the small image of the sum is the sum of the small images.
        mean = resize(self._sum / self.count, (max(small[0], 1), max(small[1], 1)))
        function = np.ones(self._sum.shape, dtype=np.float32)
        flat = []
        for channel, name in enumerate(self.channels):
            found = correction_function(mean[:, :, channel], median_size, (height, width))
            if found is None:
                flat.append(name)
            else:
                function[:, :, channel] = found
        limits = [[one.percentile(rank) for rank in percentiles] for one in self._histograms]
        return Illumination(
            channels=self.channels,
            function=function,
            percentiles=np.array(limits),
            percentile_ranks=(float(percentiles[0]), float(percentiles[1])),
            mean_image=mean.astype(np.float32),
            count=self.count,
            down_scale=self.down_scale,
            median_size=median_size,
            flat=tuple(flat),
        )

    def _require_shape(self, shape: tuple[int, ...], name: str) -> None:
        if not self.count:
            self._sum = np.zeros(shape)
            self._first = name
        elif shape != self._sum.shape:
            height, width, _ = self._sum.shape
            raise DataError(
                f"a plate's images must have one size: {self._first} is {height} × {width} "
                f"pixels, {name} is {shape[0]} × {shape[1]}"
            )
