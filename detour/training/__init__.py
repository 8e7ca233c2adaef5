"""The edge to Composer: everything that imports it lives here or in `detour.build`."""
