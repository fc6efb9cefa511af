// What Apple's Foundation has and Foundation on Linux has not, as far as these files use it.

import Foundation

final class NSFileCoordinator {
    struct WritingOptions: OptionSet {
        let rawValue: UInt
    }

    func coordinate(
        writingItemAt url: URL, options: WritingOptions, error: inout NSError?,
        byAccessor work: (URL) -> Void
    ) {
        work(url)
    }
}

extension FileManager {
    /// The group is a directory here; one without a name is no group.
    func containerURL(forSecurityApplicationGroupIdentifier group: String) -> URL? {
        group.isEmpty ? nil : URL(fileURLWithPath: group, isDirectory: true)
    }
}
