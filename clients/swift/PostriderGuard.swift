// Shows a notification once, however often it arrives.
//
// A provider that got no answer through may have acted, so the server sends again, under the same
// id. The last ids are remembered in the App Group, which the app and its extension share.
// Absent here: what is shown, and receipts.

import Foundation

/// What Postrider adds to a push, under the key "postrider".
public struct PostriderPush {
    public let id: String
    public let receiptURL: URL?
    public let receiptToken: String?

    /// None if the push does not come from Postrider.
    public init?(userInfo: [AnyHashable: Any]) {
        let postrider = userInfo["postrider"] as? [String: Any]
        let receipt = postrider?["receipt"] as? [String: Any]
        // Through Firebase, whose `data` holds texts only, the same travels as values of their own.
        guard let id = postrider?["id"] as? String ?? userInfo["postrider_id"] as? String
        else { return nil }
        let url = receipt?["url"] as? String ?? userInfo["postrider_receipt_url"] as? String
        let token = receipt?["token"] as? String ?? userInfo["postrider_receipt_token"] as? String
        self.id = id
        receiptURL = url.flatMap { URL(string: $0) }
        receiptToken = token
    }
}

public struct PostriderGuard {
    /// Ids that are remembered.
    public static let idsMax = 200

    private let file: SharedFile<[String]>

    /// None if the app has no such group; see its entitlements.
    public init?(appGroup: String) {
        guard let file = SharedFile<[String]>("postrider-seen.json", appGroup: appGroup) else {
            return nil
        }
        self.file = file
    }

    /// Whether this id comes for the first time. It is remembered from now on.
    public func claim(_ id: String) -> Bool {
        var isFirst = true
        file.change { ids in
            isFirst = !ids.contains(id)
            if isFirst {
                ids = Array((ids + [id]).suffix(Self.idsMax))
            }
        }
        return isFirst
    }
}

/// A small JSON file in the App Group, changed by one process at a time.
struct SharedFile<Value: Codable & RangeReplaceableCollection>: Sendable {
    private let url: URL

    init?(_ name: String, appGroup: String) {
        let files = FileManager.default
        guard
            let directory = files.containerURL(
                forSecurityApplicationGroupIdentifier: appGroup)
        else { return nil }
        url = directory.appendingPathComponent(name)
    }

    /// Reads, changes and writes it with nobody in between. A file that cannot be read counts as
    /// empty: a notification is rather shown twice than never.
    func change(_ work: (inout Value) -> Void) {
        var trouble: NSError?
        NSFileCoordinator().coordinate(writingItemAt: url, options: [], error: &trouble) { url in
            var value = Value()
            if let data = try? Data(contentsOf: url),
                let read = try? JSONDecoder().decode(Value.self, from: data)
            {
                value = read
            }
            work(&value)
            if let data = try? JSONEncoder().encode(value) {
                try? data.write(to: url, options: .atomic)
            }
        }
    }
}
